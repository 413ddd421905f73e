/**
 * Postgres tells a cache what changed.
 *
 * @module
 */

export { type AnyDatabase, changesDatabase } from "./adapters/any_database.ts";
export {
  type DenoPostgresClient,
  type DenoPostgresPool,
  fromDenoPostgres,
} from "./adapters/deno_postgres.ts";
export { fromPg, type PgClient, type PgPool } from "./adapters/pg.ts";
export { fromPGlite, type PGliteDatabase, type PGliteTransaction } from "./adapters/pglite.ts";
export {
  fromPostgresJs,
  type PostgresJs,
  type PostgresJsConnection,
} from "./adapters/postgres_js.ts";
export type { ChangesDatabase, OnLost, Query, SqlParameter } from "./database.ts";
export { checkWatched, installChanges, type InstallOptions, type WatchProblem } from "./install.ts";
export type { Clock, Timer } from "./runtime.ts";
export { changesSql, changesVersion } from "./schema.ts";
