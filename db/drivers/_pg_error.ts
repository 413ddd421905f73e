// @ts-types="./_pg.d.ts"
import pg from "pg";
import { DatabaseUnavailableError } from "../database.ts";
import { DeadlineError } from "./_deadline.ts";
import { isUnavailableState, unavailable } from "./_unavailable.ts";

/** Routines of Postgres that do not find a prepared statement, or find that its table has changed. */
const STALE = new Set(["FetchPreparedStatement", "RevalidateCachedQuery", "transformAssignedExpr"]);

/** The SQLSTATE, if Postgres has said what is wrong. */
export function stateOf(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code : undefined;
}

/** Whether the connection is of no use after an error: all but what Postgres says of a statement. */
export function isLoss(error: unknown): boolean {
  return !(error instanceof pg.DatabaseError) || error.severity === "FATAL";
}

/** Whether a statement has to be prepared anew: its table has changed, or a pooler does not know it. */
export function isStale(error: unknown): boolean {
  return error instanceof pg.DatabaseError && STALE.has(error.routine ?? "");
}

/** The error that callers see of one of `pg`: "not now" as one class, anything else unchanged. */
export function told(error: unknown, reason: string): unknown {
  if (error instanceof DatabaseUnavailableError) return error;
  if (error instanceof DeadlineError) return unavailable("it does not answer", error);
  if (error instanceof pg.DatabaseError) {
    const { code = "" } = error;
    return isUnavailableState(code) ? unavailable(`it answered ${code}`, error) : error;
  }
  // The password has a form that cannot be right.
  if (error instanceof Error && error.message.startsWith("SASL")) return error;
  return unavailable(reason, error);
}
