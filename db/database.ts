/**
 * The port to Postgres: what the rest of the program may ask of a database, whichever driver answers.
 *
 * @module
 */
import type { Clock } from "./runtime.ts";

/** A value that may be bound to a parameter. It never becomes part of the SQL text. */
export type SqlValue =
  | string
  | number
  | boolean
  | Date
  | null
  | readonly string[]
  | readonly number[];

/** Runs statements, on any connection of the pool or within one transaction. */
export interface Queryable {
  /**
   * Runs one statement with bound parameters (`$1`, `$2`, …) and answers its rows.
   *
   * @throws {DatabaseUnavailableError} No connection could be had in time, or it broke.
   */
  query<Row>(text: string, values?: readonly SqlValue[]): Promise<Row[]>;
}

/** A running `LISTEN`. */
export interface Subscription {
  /** Stops listening. */
  close(): Promise<void>;
}

/** What the connections of a pool are doing. */
export interface PoolStats {
  /** The most there may be at once. */
  readonly connectionsMax: number;
  /** Those that run a statement, or are held by a transaction. */
  readonly inUse: number;
  /** Statements and transactions that wait for one. */
  readonly waiting: number;
}

/** A pool of connections to one Postgres database. */
export interface Database extends Queryable, AsyncDisposable {
  /**
   * Runs `run` in a transaction: committed when it resolves, rolled back when it rejects. The
   * rejection is passed on unchanged.
   */
  transaction<T>(run: (transaction: Queryable) => Promise<T>): Promise<T>;
  /**
   * Streams rows into a table: `COPY table (columns) FROM STDIN` where the driver can.
   * `rows` yields arrays in the order of `columns`. Answers how many rows were written.
   */
  copyFrom(
    table: string,
    columns: readonly string[],
    rows: AsyncIterable<readonly SqlValue[]> | Iterable<readonly SqlValue[]>,
  ): Promise<number>;
  /**
   * Calls `onNotify` for each notification on `channel`, across reconnects, until closed. Those sent
   * while the connection was down are lost: poll behind it.
   *
   * @throws {Error} The driver has no `LISTEN`.
   */
  listen(channel: string, onNotify: (payload: string) => void): Promise<Subscription>;
  /** What its connections are doing. */
  pool(): PoolStats;
  /** Lets running statements finish (bounded), then closes every connection. */
  close(): Promise<void>;
}

/** What a driver's `connect` takes. */
export interface DatabaseOptions {
  /**
   * `postgres://user:password@host:port/database`. Where it names several hosts, `h1:5432,h2:5432`, statements go
   * to the one that takes writes.
   */
  readonly url: string;
  /** Asked for the password with each connection, where it may change. Default: that of the URL. */
  readonly password?: () => string;
  /**
   * The certificates, in PEM, of those who may have signed the server's. With it, every connection is
   * encrypted, and the server must prove that it is the host of the URL. Without it, `sslmode` in the
   * URL says how.
   */
  readonly ca?: string;
  /** The most connections open at once. Default 20. */
  readonly poolMax?: number;
  /**
   * How many statements and transactions wait for a connection; one more is refused with
   * {@linkcode DatabaseUnavailableError}. Default 1,000.
   */
  readonly queueMax?: number;
  /** How long a connection may take to open. Default 2,000. */
  readonly connectTimeoutMs?: number;
  /** How long a statement may run, enforced by Postgres. Default 5,000. */
  readonly statementTimeoutMs?: number;
  /** What gives up on a server that accepts statements and never answers. Default: the system's. */
  readonly clock?: Clock;
}

/** Postgres cannot answer now: unreachable, restarting, or past a bound. Worth a retry later. */
export class DatabaseUnavailableError extends Error {
  override readonly name = "DatabaseUnavailableError";
}
