/**
 * What Postgres refuses and only a person can change: a wrong password, a missing database or table.
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

/** Advice by SQLSTATE: authorization, privileges, and a database, schema, table or column that is missing. */
const ADVICE: readonly (readonly [states: RegExp, advice: string])[] = [
  [/^28/, RIGHT_URL],
  [/^42501$/, GRANT],
  [/^(3D000|3F000|42P01|42703|42883)$/, MAKE_SCHEMA],
  [/^(22023|42704)$/, PARAMETER],
];

/** What PgBouncer says to a parameter that it does not know. */
const UNKNOWN_PARAMETER = /unsupported startup parameter/i;

/** What to do about an error of the database that does not pass by itself; `undefined`: it is none. */
export function adviceOn(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (UNKNOWN_PARAMETER.test(error.message)) return POOLER;
  const state = stateOf(error);
  return ADVICE.find(([states]) => states.test(state))?.[1] ?? adviceOn(error.cause);
}

/** What to do about an error of the database that a command met. Empty: its message has to do. */
export function adviceTo(error: unknown): string {
  const advice = adviceOn(error) ??
    (error instanceof DatabaseUnavailableError ? `Is Postgres running? ${RIGHT_URL}` : "");
  return advice === "" ? "" : `. ${advice}`;
}

/** The SQLSTATE, which the drivers keep in different places. */
function stateOf(error: Error): string {
  const { code, fields } = error as { code?: unknown; fields?: { code?: unknown } };
  return String(fields?.code ?? code ?? "");
}
