/**
 * Errors of Postgres that only a person can fix: a wrong password, a missing database or table.
 *
 * @module
 */
import { DatabaseUnavailableError } from "./database.ts";

const RIGHT_URL = "Is DATABASE_URL right?";
const MAKE_SCHEMA = "`deno task seed` makes the database and its schema, with `--count 0` no users";
const GRANT =
  "Grant that to the user of DATABASE_URL (docs/operations/access.md lists what it needs)";
const POOLER = "PgBouncer takes it with ignore_startup_parameters = statement_timeout";
const PARAMETER = "Postgres does not take what DATABASE_URL asks of a connection";

/** Advice by SQLSTATE: authorization, privileges, and missing databases, schemas, tables or columns. */
const ADVICE: readonly (readonly [states: RegExp, advice: string])[] = [
  [/^28/, RIGHT_URL],
  [/^42501$/, GRANT],
  [/^(3D000|3F000|42P01|42703|42883)$/, MAKE_SCHEMA],
  [/^(22023|42704)$/, PARAMETER],
];

/** PgBouncer's message for an unknown parameter. */
const UNKNOWN_PARAMETER = /unsupported startup parameter/i;

/** Advice on a permanent error of the database; `undefined`: it is not one. */
export function adviceOn(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (UNKNOWN_PARAMETER.test(error.message)) return POOLER;
  const state = stateOf(error);
  return ADVICE.find(([states]) => states.test(state))?.[1] ?? adviceOn(error.cause);
}

/** Advice on an error of the database in a command. Empty: its message must do. */
export function adviceTo(error: unknown): string {
  const advice = adviceOn(error) ??
    (error instanceof DatabaseUnavailableError ? `Is Postgres running? ${RIGHT_URL}` : "");
  return advice === "" ? "" : `. ${advice}`;
}

/** The role of the service lacks a right. The message names the SQL that gives it, if that is known. */
export class MissingRightError extends Error {
  override readonly name = "MissingRightError";
}

/** True if Postgres refused a statement for a right that the role lacks. */
export function isOfRight(error: Error): boolean {
  return stateOf(error) === "42501";
}

/** SQLSTATEs of a login that is refused, or of a database that does not exist. */
const NO_LOGIN = /^28|^3D000$/;

/**
 * True if no connection could be made, for a reason that has nothing to do with the statement: a password that was
 * changed, a database that is being replaced.
 */
export function isOfLogin(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  // `pg` refuses some passwords itself.
  return NO_LOGIN.test(stateOf(error)) || error.message.startsWith("SASL");
}

/** The SQLSTATE, which drivers keep in different places. */
function stateOf(error: Error): string {
  const { code, fields } = error as { code?: unknown; fields?: { code?: unknown } };
  return String(fields?.code ?? code ?? "");
}
