import type { ChangesDatabase, Query, SqlParameter } from "../database.ts";

/** The part of a `PGlite` that is used here. */
export interface PGliteDatabase extends PGliteTransaction {
  /** Runs a transaction. */
  transaction<T>(run: (transaction: PGliteTransaction) => Promise<T>): Promise<T>;
  /** Listens. */
  listen(channel: string, onNotify: (payload: string) => void): Promise<() => Promise<void>>;
}

/** One transaction of a {@linkcode PGliteDatabase}. */
export interface PGliteTransaction {
  /** Runs a statement. */
  query<Row>(sql: string, parameters?: unknown[]): Promise<{ rows: Row[] }>;
  /** Runs statements without parameters. */
  exec(sql: string): Promise<{ rows: unknown[] }[]>;
}

/**
 * Postgres in this process, through `PGlite`.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { fromPGlite, type PGliteDatabase } from "@lookaside/changes";
 *
 * // const db = new PGlite();
 * const rows = [{ one: 1 }];
 * const none = () => Promise.reject(new Error("none"));
 * const exec = () => Promise.resolve([{ rows }]);
 * const db: PGliteDatabase = { query: none, exec, transaction: none, listen: none };
 * assert.deepEqual(await fromPGlite(db).query("SELECT 1 AS one"), [{ one: 1 }]);
 * ```
 */
export function fromPGlite(database: PGliteDatabase): ChangesDatabase {
  const over =
    (on: PGliteTransaction): Query =>
    async <Row>(sql: string, parameters: readonly SqlParameter[] = []) => {
      // Without parameters there may be several statements, as with the drivers of other servers.
      if (parameters.length === 0) return (await on.exec(sql)).at(-1)?.rows as Row[] ?? [];
      return (await on.query<Row>(sql, [...parameters])).rows;
    };
  return {
    query: over(database),
    transaction: (run) => database.transaction((transaction) => run(over(transaction))),
    async listen(channel, onNotify) {
      const unlisten = await database.listen(channel, onNotify);
      return { [Symbol.asyncDispose]: unlisten };
    },
  };
}
