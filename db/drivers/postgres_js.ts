/**
 * The default driver: `npm:postgres`.
 *
 * @module
 */
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setImmediate as nextTurn } from "node:timers/promises";
import postgres from "postgres";
import {
  type Database,
  type DatabaseOptions,
  DatabaseUnavailableError,
  type PoolStats,
  type Queryable,
  type SqlValue,
  type Subscription,
} from "../database.ts";
import { parsePostgresUrl } from "../postgres_url.ts";
import { quoteIdentifier } from "../quote_identifier.ts";
import { type Clock, systemClock } from "../runtime.ts";
import { arrayText, arrayTypes } from "./_array_text.ts";
import { copyChunks } from "./_copy_text.ts";
import { Deadline, DeadlineError, withDeadline } from "./_deadline.ts";
import { Hosts } from "./_hosts.ts";
import { Listening } from "./_listening.ts";
import { Pool, type Sql } from "./_postgres_js_pool.ts";
import { StatementBound } from "./_statement_bound.ts";
import { isUnavailableState, READ_ONLY, unavailable } from "./_unavailable.ts";

const POOL_MAX = 20;
const QUEUE_MAX = 1_000;

/** How long running statements may take to finish when the pool closes. */
const CLOSE_TIMEOUT_MS = 5_000;

/** The connection broke with a statement on it. */
const LOST_CODES: ReadonlySet<unknown> = new Set([
  "CONNECTION_CLOSED",
  "CONNECTION_DESTROYED",
  "ECONNABORTED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
]);

/** There was no connection to begin with. */
const UNREACHABLE_CODES: ReadonlySet<unknown> = new Set([
  "CONNECTION_CONNECT_TIMEOUT",
  "CONNECTION_ENDED",
  "CONNECT_TIMEOUT",
  // Somebody answers, who can't prove to be the server.
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "EAI_AGAIN",
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOENT",
  "ENOTFOUND",
  "ERR_TLS_CERT_ALTNAME_INVALID",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
]);

type TransactionSql = Parameters<Parameters<Sql["begin"]>[1]>[0];

/** A server that takes no writes has answered. */
class ReadOnlyError extends Error {
  override readonly name = "ReadOnlyError";
}

/** Another server has to be asked, and may be: the statement has done nothing. */
class WrongServerError extends DatabaseUnavailableError {}

/** Where a statement runs: anywhere in the pool, or on the connection of one transaction. */
interface Target {
  readonly pool: Pool;
  readonly sql: Sql | TransactionSql;
  readonly loss?: Loss;
}

/** Whether a transaction has lost its connection. `promise` rejects when it does. */
class Loss {
  readonly #rejection = Promise.withResolvers<never>();
  readonly promise: Promise<never> = this.#rejection.promise;
  happened = false;

  report(error: unknown): void {
    this.happened = true;
    this.#rejection.reject(error);
  }
}

/** Opens a pool. Connects with the first statement, so it answers even while Postgres is down. */
export function connect(options: DatabaseOptions): Database {
  return new PostgresJsDatabase(options);
}

/**
 * The port over postgres.js 3.4.9.
 *
 * That version must not reuse a connection that broke under a statement: bytes still buffered for
 * the old socket block the new one for good, and the old error answers the next statement. So an
 * instance that lost a connection so is retired: it finishes what runs on its other connections,
 * while new statements go to a new instance.
 */
class PostgresJsDatabase implements Database {
  readonly #options: DatabaseOptions;
  readonly #hosts: Hosts;
  readonly #clock: Clock;
  readonly #poolMax: number;
  readonly #connectTimeoutMs: number;
  readonly #statementTimeoutMs: number;
  readonly #bound: StatementBound;
  readonly #retired = new Set<Promise<void>>();
  readonly #listening = new Set<Listening>();
  #pool: Pool;
  #closed = false;

  constructor(options: DatabaseOptions) {
    this.#options = options;
    this.#hosts = new Hosts(parsePostgresUrl(options.url).urls);
    this.#clock = options.clock ?? systemClock;
    this.#poolMax = options.poolMax ?? POOL_MAX;
    this.#connectTimeoutMs = options.connectTimeoutMs ?? 2_000;
    this.#statementTimeoutMs = options.statementTimeoutMs ?? 5_000;
    this.#bound = new StatementBound(this.#poolMax, options.queueMax ?? QUEUE_MAX);
    this.#pool = this.#open();
  }

  query<Row>(text: string, values: readonly SqlValue[] = []): Promise<Row[]> {
    return this.#bound.run(async () => {
      for (let others = this.#hosts.count - 1;; others--) {
        const pool = this.#pool;
        try {
          return await pool.track(() => this.#run<Row>({ pool, sql: pool.sql }, text, values));
        } catch (error) {
          if (others === 0 || !(error instanceof WrongServerError)) throw error;
        }
      }
    });
  }

  transaction<T>(run: (transaction: Queryable) => Promise<T>): Promise<T> {
    return this.#begin((_sql, target) =>
      run({
        query: <Row>(text: string, values: readonly SqlValue[] = []) =>
          this.#run<Row>(target, text, values),
      })
    );
  }

  async copyFrom(
    table: string,
    columns: readonly string[],
    rows: AsyncIterable<readonly SqlValue[]> | Iterable<readonly SqlValue[]>,
  ): Promise<number> {
    const into = `${quoteIdentifier(table)} (${columns.map(quoteIdentifier).join(", ")})`;
    let count = 0;
    // In a transaction not only to have all rows or none: postgres.js would send other statements
    // down the connection that is copying.
    await this.#begin(async (sql, target) => {
      // A stream takes as long as its source. Its end is the caller's to bound.
      await this.#run(target, "SET LOCAL statement_timeout = 0", []);
      const sink = await sql.unsafe(`COPY ${into} FROM STDIN`).writable();
      try {
        await pipeline(Readable.from(copyChunks(rows, () => count++)), sink, { end: false });
        sink.end();
      } catch (error) {
        if (LOST_CODES.has(codeOf(error))) target.loss?.report(error);
        // Tells Postgres that no more rows follow: until then it takes no ROLLBACK. The stream then
        // emits the error that is thrown here already.
        sink.on("error", () => {});
        sink.destroy(asError(error));
        throw error;
      }
      // postgres.js hears nothing of rows that are refused once the last one is sent. Whether the
      // transaction still stands tells. A turn later, because `end` sends its message in the next.
      await nextTurn();
      try {
        await this.#run(target, "SELECT 1", []);
      } catch (error) {
        if (codeOf(error) !== "25P02") throw error;
        throw new Error(`Cannot copy into ${table}: Postgres refused the rows`, { cause: error });
      }
    });
    return count;
  }

  async listen(channel: string, onNotify: (payload: string) => void): Promise<Subscription> {
    const listening = new Listening({
      url: this.#hosts.current.href,
      settings: this.#settings(),
      begin: (sql) => withDeadline(sql.listen(channel, onNotify), this.#limitMs(), this.#clock),
      clock: this.#clock,
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
      throw translate(error);
    }
    return { close };
  }

  pool(): PoolStats {
    const connectionsMax = this.#poolMax;
    const inUse = Math.min(this.#pool.running, connectionsMax);
    return { connectionsMax, inUse, waiting: this.#pool.running - inUse };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([
      this.#pool.end(CLOSE_TIMEOUT_MS),
      ...[...this.#listening].map((listening) => listening.close()),
      ...this.#retired,
    ]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #settings(): postgres.Options<typeof arrayTypes> {
    const { password, ca } = this.#options;
    const hosts = this.#hosts;
    const database = decodeURIComponent(hosts.current.pathname.slice(1));
    return {
      ...hosts.option,
      ...(database === "" ? {} : { database }),
      ...(password === undefined ? {} : { password }),
      // The host stands for a name where there is none: an address is looked for in the certificate.
      ...(ca === undefined ? {} : {
        ssl: {
          ca,
          get host() {
            return hosts.current.hostname;
          },
        },
      }),
      max: this.#poolMax,
      connect_timeout: this.#connectTimeoutMs / 1_000,
      connection: {
        application_name: "lookaside",
        statement_timeout: this.#statementTimeoutMs,
      },
      // By default each new connection first asks for the array types there are. Should it break just
      // then, nothing catches the rejection, and the process ends.
      fetch_types: false,
      types: arrayTypes,
      // Notices such as "relation already exists, skipping" are for a person at a prompt; the
      // default prints them.
      onnotice: () => {},
    };
  }

  #open(): Pool {
    // By default a statement waits up to 20 s for its turn to reconnect. Callers here would rather
    // hear at once that Postgres is down, and they bound how often they ask.
    const settings = { ...this.#settings(), backoff: () => 0 };
    return new Pool(this.#hosts.current, settings, this.#clock);
  }

  /** Statements get a connection and an answer within this, or reject. */
  #limitMs(): number {
    return this.#connectTimeoutMs + this.#statementTimeoutMs;
  }

  async #run<Row>(
    { pool, sql, loss }: Target,
    text: string,
    values: readonly SqlValue[],
  ): Promise<Row[]> {
    if (this.#closed && loss === undefined) throw unavailable("the pool was closed", undefined);
    if (loss?.happened) throw unavailable("the transaction lost its connection", undefined);
    const answersBefore = pool.answers;
    try {
      // Values go as bound parameters of a prepared statement. Without values the text goes as a
      // simple query, which may hold several statements, as migrations do.
      const rows = await withDeadline(
        sql.unsafe<Row[]>(text, values.map(bindable), { prepare: true }),
        this.#limitMs(),
        this.#clock,
      );
      pool.answers++;
      // A standby, or the primary of before: what it answers may be behind.
      if (pool.isReadOnly) throw new ReadOnlyError("Cannot use the server: it is read-only");
      return Array.from(rows);
    } catch (error) {
      const late = error instanceof DeadlineError;
      if (error instanceof postgres.PostgresError) pool.answers++;
      const isRefused = codeOf(error) === READ_ONLY;
      const isWrong = isRefused || error instanceof ReadOnlyError || this.#isUnreachable(error);
      if (isWrong) this.#leave(pool);
      // Late while others were answered: a long queue. Late and nobody was: a dead server.
      else if (late && pool.answers === answersBefore) this.#leaveDead(pool);
      else if (LOST_CODES.has(codeOf(error))) this.#retire(pool, CLOSE_TIMEOUT_MS);
      if (late || LOST_CODES.has(codeOf(error))) loss?.report(error);
      // A server that took writes until now may have taken this one as well.
      const isUndone = isRefused || this.#isUnreachable(error) || answersBefore === 0;
      const told = translate(error);
      if (!isWrong || !isUndone || !(told instanceof DatabaseUnavailableError)) throw told;
      throw new WrongServerError(told.message, { cause: told.cause });
    }
  }

  #begin<T>(run: (sql: TransactionSql, target: Target) => Promise<T>): Promise<T> {
    const pool = this.#pool;
    if (this.#closed) return Promise.reject(unavailable("the pool was closed", undefined));
    return this.#bound.run(() => pool.track(() => this.#beginOn(pool, run)));
  }

  /**
   * Runs `run` on one connection between `BEGIN` and `COMMIT` or `ROLLBACK`.
   *
   * Once the connection is lost postgres.js must not be let to end the transaction:
   *   1. the connection closes; its socket is null
   *   2. `run` rejects, and postgres.js sends `ROLLBACK` down that connection
   *   3. writing to null throws outside of any promise, and ends the process
   * Worse, once the connection was reopened for someone else, `run` would go on in their transaction.
   * So after a loss the callback neither sends nor settles, and the race answers.
   */
  async #beginOn<T>(
    pool: Pool,
    run: (sql: TransactionSql, target: Target) => Promise<T>,
  ): Promise<T> {
    const loss = new Loss();
    const answersBefore = pool.answers;
    // Of `BEGIN` and of what ends it. Statements in between have deadlines of their own.
    const deadline = new Deadline(this.#limitMs(), this.#clock);
    const work = pool.sql.begin(async (sql) => {
      if (!deadline.stop()) throw new Error("Cannot begin: its caller no longer waits");
      try {
        return { value: await run(sql, { pool, sql, loss }) };
      } finally {
        if (loss.happened) await new Promise<never>(() => {});
        deadline.start();
      }
    });
    try {
      return (await Promise.race([work, loss.promise, deadline.passed])).value;
    } catch (error) {
      if (error instanceof DeadlineError && pool.answers === answersBefore) this.#leaveDead(pool);
      if (this.#isUnreachable(error)) this.#leave(pool);
      if (LOST_CODES.has(codeOf(error))) {
        loss.report(error);
        this.#retire(pool, CLOSE_TIMEOUT_MS);
      }
      throw translate(error);
    } finally {
      deadline.stop();
    }
  }

  /** Whether there was no connection to begin with, and another server to ask. */
  #isUnreachable(error: unknown): boolean {
    return this.#hosts.count > 1 && UNREACHABLE_CODES.has(codeOf(error));
  }

  /** Leaves a server that does not answer for the next one. */
  #leaveDead(pool: Pool): void {
    if (pool === this.#pool) this.#hosts.leave(pool.server);
    this.#retire(pool, 0);
  }

  /** Leaves a server that is of no use for the next one, with one pool after the other. */
  #leave(pool: Pool): void {
    if (pool !== this.#pool) return;
    this.#hosts.leave(pool.server);
    for (const listening of this.#listening) listening.beginAnew();
    if (this.#retired.size === 0) this.#retire(pool, CLOSE_TIMEOUT_MS);
  }

  /** Replaces `pool`, unless that was done already. It gets `timeoutMs` to finish what runs. */
  #retire(pool: Pool, timeoutMs: number): void {
    if (this.#closed || pool !== this.#pool) return;
    this.#pool = this.#open();
    const ended = pool.end(timeoutMs).finally(() => {
      this.#retired.delete(ended);
    });
    this.#retired.add(ended);
  }
}

/** postgres.js knows how to write arrays only once it has asked for their types. */
function bindable(value: SqlValue): string | number | boolean | Date | null {
  return typeof value !== "object" || value === null || value instanceof Date
    ? value
    : arrayText(value);
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error), { cause: error });
}

/** What callers see of a driver's error: "not now" as one class, anything else unchanged. */
function translate(error: unknown): unknown {
  if (error instanceof DeadlineError) return unavailable("it does not answer", error);
  if (error instanceof ReadOnlyError) return unavailable("the server is read-only", error);
  const code = codeOf(error);
  if (LOST_CODES.has(code)) return unavailable("the connection was lost", error);
  if (UNREACHABLE_CODES.has(code)) return unavailable("it cannot be reached", error);
  if (typeof code === "string" && isUnavailableState(code)) {
    return unavailable(`it answered ${code}`, error);
  }
  return error;
}
