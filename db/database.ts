/**
 * The interface to Postgres, the same for every driver.
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
   * @throws {DatabaseUnavailableError} No connection was available in time, or it broke.
   */
  query<Row>(text: string, values?: readonly SqlValue[]): Promise<Row[]>;
}

/** The use of a pool's connections. */
export interface PoolStats {
  /** Limit of connections. */
  readonly connectionsMax: number;
  /** Connections that run a statement or belong to a transaction. */
  readonly inUse: number;
  /** Statements and transactions that wait for a connection. */
  readonly waiting: number;
}

/** A pool of connections to one Postgres database. */
export interface Database extends Queryable, AsyncDisposable {
  /**
   * Runs `run` in a transaction: commits if it resolves, rolls back and passes the rejection on if it rejects.
   * A statement that has failed rolls it back in any case, and its error is passed on.
   */
  transaction<T>(run: (transaction: Queryable) => Promise<T>): Promise<T>;
  /**
   * Calls `onNotify` for each notification on `channel`, across reconnects, until disposed of. Notifications during a
   * lost connection are lost, so poll too.
   *
   * @throws {Error} The driver has no `LISTEN`.
   */
  listen(channel: string, onNotify: (payload: string) => void): Promise<AsyncDisposable>;
  /** The use of its connections. */
  pool(): PoolStats;
  /** Lets running statements finish, for a limited time, then closes every connection. */
  close(): Promise<void>;
}

/** Options of a driver's `connect`. */
export interface DatabaseOptions {
  /**
   * `postgres://user:password@host:port/database`. If it names several hosts, `h1:5432,h2:5432`, statements go
   * to the one that accepts writes.
   */
  readonly url: string;
  /** Called for the password of each connection, if it may change. Default: that of the URL. */
  readonly password?: () => string;
  /**
   * PEM certificates, one of which must have signed the server's. With it, every connection is encrypted, and
   * the server must prove that it is the host of the URL. Without it, `sslmode` in the URL decides.
   */
  readonly ca?: string;
  /** Limit of open connections. Default 20. */
  readonly poolMax?: number;
  /**
   * Limit of statements and transactions that wait for a connection; any more are refused with {@linkcode
   * DatabaseUnavailableError}. Default 1,000.
   */
  readonly queueMax?: number;
  /** Longest time for opening a connection. Default 2,000. */
  readonly connectTimeoutMs?: number;
  /** Longest duration of a statement, enforced by Postgres. Default 5,000. */
  readonly statementTimeoutMs?: number;
  /** Called when a `LISTEN` was lost and an attempt to repeat it fails; more follow. */
  readonly onListenError?: (error: unknown) => void;
  /** Limits the wait for a server that accepts statements but never answers. Default: the system's. */
  readonly clock?: Clock;
}

/** Postgres is unavailable: unreachable, restarting or overloaded. Retry later. */
export class DatabaseUnavailableError extends Error {
  override readonly name = "DatabaseUnavailableError";
}
