import type { Users } from "../db/users.ts";
import { doneWithin } from "./within.ts";

/** How long the database may take to prove that users can be read. */
export const READINESS_TIMEOUT_MS = 1_000;

/** What {@linkcode readiness} asks. */
export interface ReadinessOptions {
  /** Aborted by the signal to stop. */
  readonly stopping: AbortSignal;
  /** Resolves once the cache is in use, or is given up for now. */
  readonly settled: () => Promise<void>;
}

/**
 * Makes the question whether requests should be sent here: from the first time that users can be read
 * until the signal to stop. An outage of Postgres changes nothing, or what the cache still serves would
 * be lost too. A cache that is there is waited for, so that the first requests find it.
 */
export function readiness(
  users: Users,
  { stopping, settled }: ReadinessOptions,
): () => Promise<boolean> {
  let hasBeenReady = false;
  return async () => {
    if (!hasBeenReady && !stopping.aborted) {
      const read = users.list({ page: 1, limit: 1 });
      hasBeenReady = await doneWithin(READINESS_TIMEOUT_MS, Promise.all([read, settled()]));
    }
    return hasBeenReady && !stopping.aborted;
  };
}
