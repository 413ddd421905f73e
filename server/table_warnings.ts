/**
 * Warnings about tables that can be served, but not well.
 *
 * @module
 */
import type { Logger } from "@logtape/logtape";
import type { Table } from "../routes/table.ts";

/** Logs the problems of each table, with remedies. Rejects if Postgres is unavailable. */
export async function warnOfTables(tables: readonly Table[], logger: Logger): Promise<void> {
  for (const { rows } of tables) {
    for (const advice of (await rows.shape()).advice) {
      logger.warn("{fault}: run {statement}", { ...advice });
    }
  }
}
