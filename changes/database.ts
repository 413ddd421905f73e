/**
 * The interface to Postgres: three functions that every driver can provide, so that no driver is a dependency.
 *
 * @module
 */

import type { Clock, Timer } from "./runtime.ts";
import { sqlStateOf } from "./_sqlstate.ts";

const SERIALIZATION_FAILURE = "40001";
/** Longest wait for the answer to a short statement. */
const ANSWER_MS_MAX = 30_000;

/**
 * A parameter as every driver sends it. In SQL it is written `$1::text` and cast from there, because a driver
 * that knows another type would convert the value itself.
 */
export type SqlParameter = string | number | null;

/** Runs one statement with bound parameters (`$1`, `$2`, …), unnamed, and answers its rows. */
export type Query = <Row>(sql: string, parameters?: readonly SqlParameter[]) => Promise<Row[]>;

/** A pool of connections to Postgres, with or without a pooler in between. */
export interface ChangesDatabase {
  /** Runs one statement on any connection. */
  readonly query: Query;
  /** Runs `run` in a transaction: commits if it resolves, rolls back and rejects if it rejects. */
  transaction<T>(run: (query: Query) => Promise<T>): Promise<T>;
  /**
   * Calls `onNotify` for each notification on `channel` until it is disposed of, and `onLost` once if its
   * connection breaks. Absent if listening is impossible: behind a pooler, and in some drivers.
   */
  listen?(channel: string, onNotify: () => void, onLost: OnLost): Promise<AsyncDisposable>;
}

/** Called when the listening connection has broken, with the reason if it is known. */
export type OnLost = (error?: unknown) => void;

/**
 * The first statement of a transaction that waits for a lock, and then reads what the one before it has written:
 * by default, transactions may be of a level whose snapshot is older.
 */
export const READS_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED";

/**
 * The database, with single statements at that level from the first one on that fails because transactions are, by
 * default, of a stricter one: relays write the same rows, and each error would delay them.
 */
export function readsCommitted(database: ChangesDatabase): ChangesDatabase {
  let isStricter = false;
  const listen = database.listen?.bind(database);
  return {
    transaction: (run) => database.transaction(run),
    ...(listen === undefined ? {} : { listen }),
    async query(sql, parameters) {
      if (!isStricter) {
        try {
          return await database.query(sql, parameters);
        } catch (error) {
          if (sqlStateOf(error) !== SERIALIZATION_FAILURE) throw error;
          isStricter = true;
        }
      }
      return await database.transaction(async (query) => {
        await query(READS_COMMITTED);
        return await query(sql, parameters);
      });
    },
  };
}

/**
 * The database, for short statements: one that is not answered in time is given up, and the next takes another
 * connection. If the machine of a server is gone without a word, a connection stays silent for a quarter of an hour.
 * Disposal takes the timers back, which would keep the process alive: what runs then may take as long as it likes.
 */
export function answering(database: ChangesDatabase, clock: Clock): ChangesDatabase & Disposable {
  const waiting = new Set<Timer>();
  let closing = false;
  return {
    ...database,
    async query<Row>(sql: string, parameters?: readonly SqlParameter[]) {
      if (closing) return await database.query<Row>(sql, parameters);
      const late = Promise.withResolvers<never>();
      const timer = clock.after(ANSWER_MS_MAX, () => {
        late.reject(new Error(`Cannot wait longer: Postgres was silent for ${ANSWER_MS_MAX} ms`));
      });
      waiting.add(timer);
      try {
        return await Promise.race([database.query<Row>(sql, parameters), late.promise]);
      } finally {
        timer.cancel();
        waiting.delete(timer);
      }
    },
    [Symbol.dispose]() {
      closing = true;
      for (const timer of waiting) timer.cancel();
    },
  };
}

/** Runs `run` between BEGIN and COMMIT on a connection; ROLLBACK if it rejects. */
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
    // A broken connection has ended the transaction, and reports it with the next statement.
    await query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}
