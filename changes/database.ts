/**
 * The port to Postgres: three functions that every driver has, so that none is a dependency.
 *
 * @module
 */

/**
 * A parameter as every driver sends it. In SQL it is written `$1::text` and cast on from there: a driver
 * that is told of another type would bring the value into that type's form by itself.
 */
export type SqlParameter = string | number | null;

/** Runs one statement with bound parameters (`$1`, `$2`, …), unnamed, and answers its rows. */
export type Query = <Row>(sql: string, parameters?: readonly SqlParameter[]) => Promise<Row[]>;

/** A pool of connections to Postgres, a pooler between them or not. */
export interface ChangesDatabase {
  /** Runs one statement on any connection. */
  readonly query: Query;
  /**
   * Runs `run` in a transaction: committed when it resolves, rolled back when it rejects. The rejection
   * is passed on.
   */
  transaction<T>(run: (query: Query) => Promise<T>): Promise<T>;
  /**
   * Calls `onNotify` for each notification on `channel` until it is disposed of, and `onLost` once if its
   * connection breaks before. Absent where nobody can listen: behind a pooler, and in drivers without.
   */
  listen?(channel: string, onNotify: () => void, onLost: OnLost): Promise<AsyncDisposable>;
}

/** Is told that the connection which listened has broken, and why where that is known. */
export type OnLost = (error?: unknown) => void;

/** Runs `run` between BEGIN and COMMIT on a connection, or ROLLBACK where it rejects. */
export async function inTransaction<T>(
  query: Query,
  run: (query: Query) => Promise<T>,
): Promise<T> {
  await query("BEGIN");
  try {
    const result = await run(query);
    await query("COMMIT");
    return result;
  } catch (error) {
    // A connection that broke has ended the transaction by itself, and says so the next time.
    await query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}
