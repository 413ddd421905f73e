/**
 * Tables that can be served, but not as they should be.
 *
 * @module
 */
import type { Logger } from "@logtape/logtape";
import type { Table } from "../routes/table.ts";

/** Logs what is to be done about each table, and how. Rejects where Postgres cannot tell. */
export async function warnOfTables(tables: readonly Table[], logger: Logger): Promise<void> {
  for (const { rows } of tables) {
    for (const advice of (await rows.shape()).advice) {
      logger.warn("{fault}: run {statement}", { ...advice });
    }
  }
}
