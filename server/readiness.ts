import type { Table } from "../routes/table.ts";
import { doneWithin } from "./within.ts";

/** How long the database may take to prove that its tables can be read. */
export const READINESS_TIMEOUT_MS = 1_000;

/** What {@linkcode readiness} asks. */
export interface ReadinessOptions {
  /** Aborted by the signal to stop. */
  readonly stopping: AbortSignal;
  /** Resolves once the cache is in use, or is given up for now. */
  readonly settled: Promise<unknown>;
}

/**
 * Makes the question whether requests should be sent here: from the first time that the tables can be read
 * until the signal to stop. An outage of Postgres changes nothing, or what the cache still serves would
 * be lost too. A cache that is there is waited for, so that the first requests find it.
 */
export function readiness(
  tables: readonly Table[],
  { stopping, settled }: ReadinessOptions,
): () => Promise<boolean> {
  let hasBeenReady = false;
  return async () => {
    if (!hasBeenReady && !stopping.aborted) {
      const read = Promise.all(tables.map(readFirst));
      hasBeenReady = await doneWithin(READINESS_TIMEOUT_MS, Promise.all([read, settled]));
    }
    return hasBeenReady && !stopping.aborted;
  };
}

/**
 * Reads the first row of a table, which proves that it is as it was declared and that it can be read.
 *
 * @throws {DeclarationError} It is not, and only a person can change that.
 */
export async function readFirst(table: Table): Promise<void> {
  await table.check();
  await table.rows.list({ where: {}, limit: 1 });
}
