/**
 * The default driver: `npm:pg`.
 *
 * @module
 */
// @ts-types="./_pg.d.ts"
import type { Result } from "pg";
import type { Database, DatabaseOptions, PoolStats, Queryable, SqlValue } from "../database.ts";
import { DeadlineError, withDeadline } from "./_deadline.ts";
import { Listening } from "./_listening.ts";
import { CLOSE_TIMEOUT_MS, type DriverOptions, withDefaults } from "./_options.ts";
import type { PgClient } from "./_pg_client.ts";
import { isLoss, isStale, stateOf, told } from "./_pg_error.ts";
import { PgPool } from "./_pg_pool.ts";
import { StatementBound } from "./_statement_bound.ts";
import { READ_ONLY, unavailable } from "./_unavailable.ts";

/** The SQLSTATE of a statement in a transaction that has already failed. */
const ALREADY_FAILED = "25P02";

/** Opens a pool. Connects with the first statement, so it works even while Postgres is down. */
export function connect(options: DatabaseOptions): Database {
  return new PgDatabase(options);
}

class PgDatabase implements Database {
  readonly #options: DriverOptions;
  readonly #bound: StatementBound;
  readonly #pool: PgPool;
  readonly #listening = new Set<Listening>();
  /** Number of answers, refusals included. */
  #answers = 0;

  constructor(options: DatabaseOptions) {
    this.#options = withDefaults(options);
    this.#bound = new StatementBound(this.#options);
    this.#pool = new PgPool(this.#options, () => {
      for (const listening of this.#listening) listening.beginAnew();
    });
  }

  query<Row>(text: string, values: readonly SqlValue[] = []): Promise<Row[]> {
    return this.#bound.run(async () => {
      for (let others = this.#pool.serversCount - 1;; others--) {
        try {
          return await this.#pool.lend((client) => this.#run<Row>(client, text, values));
        } catch (error) {
          // A server that takes no writes has refused the statement. Another server may run it.
          const isRefused = error instanceof Error && stateOf(error.cause) === READ_ONLY;
          if (!isRefused || others === 0) throw error;
        }
      }
    });
  }

  transaction<T>(run: (transaction: Queryable) => Promise<T>): Promise<T> {
    return this.#bound.run(() =>
      this.#pool.lend(async (client) => {
        await this.#run(client, "BEGIN", []);
        const failures: unknown[] = [];
        let last: Promise<unknown> = Promise.resolve();
        const query = <Row>(text: string, values: readonly SqlValue[] = []): Promise<Row[]> => {
          const answer = last.then(() => this.#run<Row>(client, text, values));
          last = answer.catch((error) => failures.push(error));
          return answer;
        };
        try {
          const answer = await run({ query });
          await last;
          // Postgres would answer `COMMIT` with a rollback, and report no error.
          if (failures.length > 0) throw failures[0];
          await this.#run(client, "COMMIT", []);
          return answer;
        } catch (error) {
          await last;
          const undo = client.isSpent ? undefined : this.#run(client, "ROLLBACK", []);
          await undo?.catch(() => client.isSpent = true);
          throw stateOf(error) === ALREADY_FAILED ? failures[0] ?? error : error;
        }
      })
    );
  }

  async listen(channel: string, onNotify: (payload: string) => void): Promise<AsyncDisposable> {
    const listening = new Listening({
      ...this.#options,
      channel,
      onNotify,
      open: () => this.#pool.open(),
      onError: (error) => this.#options.onListenError?.(told(error, "it cannot be reached")),
    });
    const close = async () => {
      this.#listening.delete(listening);
      await listening.close();
    };
    this.#listening.add(listening);
    try {
      await listening.begun;
    } catch (error) {
      await close();
      throw told(error, "it cannot be reached");
    }
    return { [Symbol.asyncDispose]: close };
  }

  pool(): PoolStats {
    const connectionsMax = this.#options.poolMax;
    const inUse = Math.min(this.#bound.count, connectionsMax);
    return { connectionsMax, inUse, waiting: this.#bound.count - inUse };
  }

  async close(): Promise<void> {
    const listening = [...this.#listening].map((each) => each.close());
    const drained = withDeadline(this.#bound.drained(), CLOSE_TIMEOUT_MS, this.#options.clock);
    // Statements that have not finished by then are cut off.
    await this.#pool.close(drained.catch(() => undefined));
    await Promise.all(listening);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Runs one statement. Without an answer in time, the connection is not used again. */
  async #run<Row>(client: PgClient, text: string, values: readonly SqlValue[]): Promise<Row[]> {
    if (client.isSpent) throw unavailable("the transaction lost its connection", undefined);
    const answersBefore = this.#answers;
    try {
      const sent = this.#send(client, text, values);
      const { limitMs, clock } = this.#options;
      const answer = await withDeadline(sent, limitMs, clock);
      this.#answers++;
      // The answer of a standby or a former primary may be out of date.
      if (client.isReadOnly) throw unavailable("the server is read-only", undefined);
      return (Array.isArray(answer) ? answer.at(-1)?.rows ?? [] : answer.rows) as Row[];
    } catch (error) {
      if (isLoss(error)) client.isSpent = true;
      else this.#answers++;
      // If others were answered meanwhile, only this connection is dead. Otherwise the server is.
      const isDead = error instanceof DeadlineError && this.#answers === answersBefore;
      if (isDead || client.isReadOnly || stateOf(error) === READ_ONLY) this.#pool.leave(client);
      throw told(error, "the connection was lost");
    }
  }

  /**
   * Sends values as bound parameters of a prepared statement. Without values the text is a simple query, which
   * may contain several statements, as migrations do.
   */
  async #send(
    client: PgClient,
    text: string,
    values: readonly SqlValue[],
  ): Promise<Result | Result[]> {
    if (values.length === 0) return await client.query({ text });
    const bound = values.map((value) => value instanceof Date ? value.toISOString() : value);
    try {
      return await client.query({ text, values: bound, name: client.nameOf(text) });
    } catch (error) {
      if (!isStale(error)) throw error;
      client.forget(text);
      return await client.query({ text, values: bound, name: client.nameOf(text) }).catch(
        (again) => {
          throw stateOf(again) === ALREADY_FAILED ? error : again;
        },
      );
    }
  }
}
