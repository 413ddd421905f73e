import { type ChangesDatabase, readsCommitted } from "../database.ts";
import { type DenoPostgresPool, fromDenoPostgres } from "./deno_postgres.ts";
import { fromPg, type PgPool } from "./pg.ts";
import { fromPGlite, type PGliteDatabase } from "./pglite.ts";
import { fromPostgresJs, type PostgresJs } from "./postgres_js.ts";

/** A driver's own object, or the interface itself. */
export type AnyDatabase =
  | ChangesDatabase
  | PgPool
  | PostgresJs
  | PGliteDatabase
  | DenoPostgresPool;

/**
 * Makes the interface from any driver's pool, recognised by functions that only this driver has.
 *
 * @throws {TypeError} The driver is unknown.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { changesDatabase } from "@lookaside/changes";
 *
 * assert.throws(() => changesDatabase({} as never), TypeError);
 * ```
 */
export function changesDatabase(database: AnyDatabase): ChangesDatabase {
  return readsCommitted(portOf(database));
}

function portOf(database: AnyDatabase): ChangesDatabase {
  if (has(database, "unsafe", "begin")) return fromPostgresJs(database as PostgresJs);
  if (has(database, "exec", "transaction")) return fromPGlite(database as PGliteDatabase);
  if (has(database, "query", "connect") && "totalCount" in database) {
    return fromPg(database as PgPool);
  }
  if (has(database, "connect") && "available" in database) {
    return fromDenoPostgres(database as DenoPostgresPool);
  }
  if (has(database, "query", "transaction")) return database as ChangesDatabase;
  throw new TypeError(
    "Cannot use this as a database: it is no pool of pg, postgres, @db/postgres or PGlite, " +
      "and has no query() and transaction() of its own",
  );
}

function has(database: AnyDatabase, ...functions: readonly string[]): boolean {
  return functions.every((name) => typeof Reflect.get(Object(database), name) === "function");
}
