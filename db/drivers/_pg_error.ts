// @ts-types="./_pg.d.ts"
import pg from "pg";
import { toldOf } from "./_unavailable.ts";

/** Routines of Postgres that miss a prepared statement, or notice that its table has changed. */
const STALE = new Set(["FetchPreparedStatement", "RevalidateCachedQuery", "transformAssignedExpr"]);

/** The SQLSTATE, if the error is from Postgres. */
export function stateOf(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.code ?? "" : undefined;
}

/** Whether an error ends the use of a connection. Only an error of a statement does not. */
export function isLoss(error: unknown): boolean {
  return !(error instanceof pg.DatabaseError) || error.severity === "FATAL";
}

/** Whether a statement must be prepared again: its table has changed, or a pooler does not know it. */
export function isStale(error: unknown): boolean {
  return error instanceof pg.DatabaseError && STALE.has(error.routine ?? "");
}

/** The error for callers, as {@linkcode toldOf} translates it. */
export function told(error: unknown, reason: string): unknown {
  const state = stateOf(error);
  // `pg` rejects the password before the server sees it.
  if (state === undefined && error instanceof Error && error.message.startsWith("SASL")) {
    return error;
  }
  return toldOf(error, state, reason);
}
