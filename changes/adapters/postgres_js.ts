import type { ChangesDatabase, Query, SqlParameter } from "../database.ts";

/** The part of the client of `postgres` (postgres.js) that is used here. */
export interface PostgresJs extends PostgresJsConnection {
  /** Runs a transaction. */
  begin<T>(run: (connection: PostgresJsConnection) => Promise<T>): Promise<unknown>;
  /** Listens on a connection of its own, also after reconnects. */
  listen(
    channel: string,
    onNotify: (payload: string) => void,
    onListen: () => void,
  ): Promise<{ unlisten(): Promise<unknown> }>;
  /** The options that it was made with. */
  readonly options?: {
    readonly transform?: {
      readonly column?: { readonly from?: ((name: string) => string) | undefined };
    };
  };
}

/** A connection of a {@linkcode PostgresJs}. */
export interface PostgresJsConnection {
  /** Runs a statement given as text. */
  unsafe(sql: string, parameters?: never[], options?: { prepare?: boolean }): PromiseLike<unknown>;
}

/**
 * Postgres through `postgres`, which listens again by itself after its connection broke. Behind a pooler it must
 * be made with `prepare: false`; otherwise it prepares its own COMMIT. Without `fetch_types: false`, version 3.4.9
 * ends the process if a connection is lost while it asks for the types of arrays.
 *
 * @throws {TypeError} Its `transform` renames columns that are in camel case, as `postgres.pascal` does.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { fromPostgresJs, type PostgresJs } from "@lookaside/changes";
 *
 * // const sql = postgres({ fetch_types: false });
 * const none = () => Promise.reject(new Error("none"));
 * const sql: PostgresJs = {
 *   unsafe: () => Promise.resolve([{ one: 1 }]),
 *   begin: none,
 *   listen: none,
 * };
 * assert.deepEqual(await fromPostgresJs(sql).query("SELECT 1 AS one"), [{ one: 1 }]);
 * ```
 */
export function fromPostgresJs(sql: PostgresJs): ChangesDatabase {
  const renamed = sql.options?.transform?.column?.from?.("nowMs") ?? "nowMs";
  if (renamed !== "nowMs") {
    throw new TypeError(
      `Cannot use a client of postgres whose \`transform\` makes ${renamed} of the column nowMs: make one without`,
    );
  }
  const over =
    (on: PostgresJsConnection): Query =>
    async <Row>(text: string, parameters: readonly SqlParameter[] = []) => {
      const values = parameters as readonly unknown[] as never[];
      return [...await on.unsafe(text, values, { prepare: false }) as Row[]];
    };
  return {
    query: over(sql),
    transaction: (run) => transaction(sql, (connection) => run(over(connection))),
    async listen(channel, onNotify) {
      // Notifications during a lost connection are lost: look once it is back.
      const listening = await sql.listen(channel, onNotify, onNotify);
      try {
        await sql.unsafe("SELECT 1", [], { prepare: false });
      } catch (error) {
        await listening.unlisten();
        await endListener(sql, error);
        throw error;
      }
      return {
        async [Symbol.asyncDispose]() {
          await listening.unlisten();
        },
      };
    },
  };
}

/**
 * As `begin()`, which in 3.4.9 ends the process if it sends COMMIT or ROLLBACK over a lost connection. Here the
 * transaction is then left open, and `begin()` rejects because of the connection.
 */
async function transaction<T>(
  sql: PostgresJs,
  run: (connection: PostgresJsConnection) => Promise<T>,
): Promise<T> {
  let lost: unknown;
  const forever = new Promise<never>(() => undefined);
  const begun = sql.begin(async (connection) => {
    const unsafe: PostgresJsConnection["unsafe"] = (...statement) =>
      lost === undefined ? connection.unsafe(...statement) : Promise.reject(lost);
    try {
      const result = await run({ unsafe });
      return lost === undefined ? result : await forever;
    } catch (error) {
      if (lost === undefined && !endsConnection(error)) throw error;
      return await forever;
    }
  });
  try {
    return await begun as T;
  } catch (error) {
    lost = error;
    throw error;
  }
}

/**
 * Ends the client on which `listen()` listens if the error says that the client itself was ended: `end()` ends both,
 * but not one that `listen()` makes later, which would keep the process alive for ever.
 */
async function endListener({ listen }: PostgresJs, error: unknown): Promise<void> {
  const isEnded = error instanceof Error && Reflect.get(error, "code") === "CONNECTION_ENDED";
  const listener = (listen as { readonly sql?: { end(): Promise<unknown> } }).sql;
  if (isEnded) await listener?.end();
}

/** True if this error ends the connection: the driver says so, or Postgres shuts down. */
function endsConnection(error: unknown): boolean {
  const code = error instanceof Error ? Reflect.get(error, "code") : undefined;
  return typeof code === "string" && /^(CONNECTION_|E[A-Z]+$|57P0[1-5]|08)/.test(code);
}
