import {
  type ChangesDatabase,
  inTransaction,
  type OnLost,
  type Query,
  type SqlParameter,
} from "../database.ts";

/** The part of a `Pool` of `pg` that is used here. */
export interface PgPool {
  /** Its options. */
  readonly options: { readonly max?: number };
  /** Number of its connections. */
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
  /** Returns the connection to the pool, or closes it. */
  release(ended?: boolean): void;
  /** Adds a listener for an event. */
  on(event: "notification" | "error" | "end", listener: (reason?: unknown) => void): unknown;
  /** Removes a listener. */
  removeListener(event: "error", listener: () => void): unknown;
}

/**
 * Postgres through a pool of `pg`; one of its connections is kept for `LISTEN`.
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
      // The statement rejects as well; an error event without a listener would end the process.
      const onError = (): void => undefined;
      client.on("error", onError);
      let ended = true;
      try {
        const result = await inTransaction(over(client), run);
        ended = false;
        return result;
      } finally {
        client.removeListener("error", onError);
        // After a `query_timeout` the driver may drop the ROLLBACK, and the next to write would never commit.
        client.release(ended);
      }
    },
    // A pool with one connection needs it for statements.
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
