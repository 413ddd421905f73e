import {
  type ChangesDatabase,
  inTransaction,
  type OnLost,
  type Query,
  type SqlParameter,
} from "../database.ts";

/** A `Pool` of `pg`, as far as it is used here. */
export interface PgPool {
  /** The options that it was made with. */
  readonly options: { readonly max?: number };
  /** How many connections it has. */
  readonly totalCount: number;
  /** Runs a statement on any connection. */
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[] }>;
  /** Takes a connection out of the pool. */
  connect(): Promise<PgClient>;
}

/** A connection of a {@linkcode PgPool}. */
export interface PgClient {
  /** Runs a statement. */
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[] }>;
  /** Gives the connection back, or ends it. */
  release(ended?: boolean): void;
  /** Calls `listener` when it says so. */
  on(event: "notification" | "error" | "end", listener: (reason?: unknown) => void): unknown;
  /** Takes a listener back. */
  removeListener(event: "error", listener: () => void): unknown;
}

/**
 * Postgres through a pool of `pg`, of whose connections one is kept for `LISTEN`.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { fromPg, type PgPool } from "@lookaside/changes";
 *
 * // const pool = new pg.Pool();
 * const query = () => Promise.resolve({ rows: [{ one: 1 }] });
 * const pool: PgPool = { options: {}, totalCount: 0, query, connect: () => Promise.reject("none") };
 * assert.deepEqual(await fromPg(pool).query("SELECT 1 AS one"), [{ one: 1 }]);
 * ```
 */
export function fromPg(pool: PgPool): ChangesDatabase {
  const over =
    (on: Pick<PgPool, "query">): Query =>
    async <Row>(sql: string, parameters: readonly SqlParameter[] = []) =>
      (await on.query(sql, [...parameters])).rows as Row[];
  return {
    query: over(pool),
    async transaction(run) {
      const client = await pool.connect();
      // Its statement rejects as well: an error that nobody listens for would end the process.
      const onError = (): void => undefined;
      client.on("error", onError);
      try {
        return await inTransaction(over(client), run);
      } finally {
        client.removeListener("error", onError);
        client.release();
      }
    },
    // The only connection of a pool is for statements.
    ...(pool.options.max === 1 ? {} : { listen: (...how) => listen(pool, ...how) }),
  };
}

async function listen(
  pool: PgPool,
  channel: string,
  onNotify: () => void,
  onLost: OnLost,
): Promise<AsyncDisposable> {
  const client = await pool.connect();
  let ended = false;
  const end = (error?: unknown): void => {
    if (ended) return;
    ended = true;
    client.release(true);
    onLost(error);
  };
  client.on("notification", () => {
    if (!ended) onNotify();
  });
  client.on("error", end);
  client.on("end", end);
  try {
    await client.query(`LISTEN "${channel}"`);
  } catch (error) {
    ended = true;
    client.release(true);
    throw error;
  }
  return {
    [Symbol.asyncDispose]() {
      if (!ended) client.release(true);
      ended = true;
      return Promise.resolve();
    },
  };
}
