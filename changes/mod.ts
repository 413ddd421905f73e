/**
 * Reports to a cache what changes in Postgres, by any writer.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 * import { table } from "@lookaside/changes";
 *
 * await using cache = new Cache(); // in a program: { url, changes: postgresChanges(pool) }
 * const orders = table(cache, "orders", { ttlMs: 60_000 });
 * const invoice = [...orders.tags({ id: 42 }), ...table(cache, "customers").tags({ id: 7 })];
 * assert.deepEqual(invoice, ["orders:42", "orders:*", "customers:7", "customers:*"]);
 * ```
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
export { type Change, type Invalidates, InvalidationPendingError } from "./apply.ts";
export { Audit, type AuditOptions, type AuditStats } from "./audit.ts";
export type { ChangesDatabase, OnLost, Query, SqlParameter } from "./database.ts";
export type { ChangesProblem } from "./health.ts";
export { checkWatched, installChanges, type InstallOptions, type WatchProblem } from "./install.ts";
export type { Clock, Timer } from "./runtime.ts";
export { changesSql, changesVersion } from "./schema.ts";
export type { TableName, Value } from "./names.ts";
export type { PostgresChangesOptions } from "./options.ts";
export { postgresChanges } from "./postgres_changes.ts";
export {
  type Filter,
  type Key,
  type ListOptions,
  Table,
  table,
  type TableCache,
  type TableOptions,
} from "./table.ts";
export { tableTags } from "./table_tags.ts";
export { watchTable } from "./watched_tables.ts";
