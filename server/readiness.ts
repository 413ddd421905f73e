import type { Table } from "../routes/table.ts";
import { doneWithin } from "./within.ts";

/** Limit of time for proving that the tables can be read. */
export const READINESS_TIMEOUT_MS = 1_000;

export interface ReadinessOptions {
  /** Aborted by the signal to stop. */
  readonly stopping: AbortSignal;
  /** Resolves once the cache is in use, or is given up for the time being. */
  readonly settled: Promise<unknown>;
}

/**
 * Makes a function that answers whether requests should be sent here: from the first time that the tables can be
 * read, until the signal to stop. A later outage of Postgres does not change it, because the cache can still
 * answer. It also waits for the cache, so that the first requests can use it.
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
 * Reads the first row of a table, which proves that it is as declared and can be read.
 *
 * @throws {DeclarationError} It is not, which only a person can change.
 */
export async function readFirst(table: Table): Promise<void> {
  await table.check();
  await table.rows.list({ where: {}, limit: 1 });
}
