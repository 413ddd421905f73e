import { type ChangesDatabase, inTransaction, type Query, type SqlParameter } from "../database.ts";

/** The part of a `Pool` of `@db/postgres` that is used here. */
export interface DenoPostgresPool {
  /** Number of free connections. */
  readonly available: number;
  /** Takes a connection out of the pool. */
  connect(): Promise<DenoPostgresClient>;
}

/** A connection of a {@linkcode DenoPostgresPool}. */
export interface DenoPostgresClient {
  /** Runs a statement and answers its rows as objects. */
  queryObject<Row>(sql: string, parameters?: unknown[]): Promise<{ rows: Row[] }>;
  /** Returns the connection to the pool. */
  release(): void;
}

/**
 * Postgres through `@db/postgres`, which cannot listen: changes are polled.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { type DenoPostgresPool, fromDenoPostgres } from "@lookaside/changes";
 *
 * // const pool = new Pool(url, 5, true);
 * const queryObject = <Row>() => Promise.resolve({ rows: [{ one: 1 } as Row] });
 * const connect = () => Promise.resolve({ queryObject, release: () => undefined });
 * const pool: DenoPostgresPool = { available: 1, connect };
 * assert.deepEqual(await fromDenoPostgres(pool).query("SELECT 1 AS one"), [{ one: 1 }]);
 * ```
 */
export function fromDenoPostgres(pool: DenoPostgresPool): ChangesDatabase {
  const over =
    (client: DenoPostgresClient): Query =>
    async <Row>(sql: string, parameters: readonly SqlParameter[] = []) =>
      (await client.queryObject<Row>(sql, [...parameters])).rows;
  const connected = async <T>(run: (query: Query) => Promise<T>): Promise<T> => {
    const client = await pool.connect();
    try {
      return await run(over(client));
    } finally {
      client.release();
    }
  };
  return {
    query: (sql, parameters) => connected((query) => query(sql, parameters)),
    transaction: (run) => connected((query) => inTransaction(query, run)),
  };
}
