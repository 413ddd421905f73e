/**
 * The table for the races, and its answers that can be delayed.
 *
 * @module
 */
// @ts-types="./pg.d.ts"
import pg from "pg";
import { using } from "./cleanup.ts";

const CREATE = "CREATE TABLE items (id integer PRIMARY KEY, value text NOT NULL)";
const CONNECTIONS_MAX = 4;

/** A `Pool` of `pg`, with a type for its `query()`. */
export interface RacePool {
  /** Runs a statement on any connection. */
  query(text: string, values?: unknown[]): Promise<{ rows: unknown[] }>;
}

/** The items, as an instance accesses them. */
export interface RaceDatabase {
  /** The address of the database. */
  readonly url: string;
  /** A pool of `pg`, for a library that sends its own statements. */
  readonly pool: RacePool;
  /** Reads the value of an item. */
  find(id: number): Promise<string | undefined>;
  /** Changes the value of an item, and commits. */
  update(id: number, value: string): Promise<void>;
}

/** A delayed answer of Postgres. */
export interface HeldLoad {
  /** Resolves with Postgres's answer. */
  readonly answered: Promise<string>;
  /** Forwards it to the instance. */
  release(): void;
}

/** A {@linkcode RaceDatabase} that can delay answers, and counts them. */
export class WatchedDatabase implements RaceDatabase, AsyncDisposable {
  readonly url: string;
  readonly pool: RacePool & { end(): Promise<void> };
  /** Number of reads of items. */
  loads = 0;
  #held: { seen(value: string): void; readonly released: Promise<void> } | undefined;

  constructor(url: string) {
    this.url = url;
    const pool = new pg.Pool({ connectionString: url, max: CONNECTIONS_MAX });
    pool.on("error", () => undefined);
    const query = pool.query.bind(pool) as (...args: unknown[]) => Promise<{ rows: unknown[] }>;
    const watched = async (...args: unknown[]) => {
      const answer = await query(...args);
      if (isLoad(args[0])) await this.#loaded(answer.rows);
      return answer;
    };
    this.pool = Object.assign(pool, { query: watched });
  }

  /** Creates a database on a server, with an empty table. Answers its address. */
  static async create(serverUrl: string): Promise<string> {
    const name = `races_${crypto.randomUUID().replaceAll("-", "")}`;
    await using(
      new WatchedDatabase(serverUrl),
      ({ pool }) => pool.query(`CREATE DATABASE ${name}`),
    );
    const url = new URL(serverUrl);
    url.pathname = `/${name}`;
    await using(new WatchedDatabase(url.href), ({ pool }) => pool.query(CREATE));
    return url.href;
  }

  /** Drops a database of {@linkcode WatchedDatabase.create}, even if there are connections to it. */
  static async drop(url: string, serverUrl: string): Promise<void> {
    const name = new URL(url).pathname.slice(1);
    const statement = `DROP DATABASE ${name} WITH (FORCE)`;
    await using(new WatchedDatabase(serverUrl), ({ pool }) => pool.query(statement));
  }

  async find(id: number): Promise<string | undefined> {
    const { rows } = await this.pool.query("SELECT value FROM items WHERE id = $1", [id]);
    return (rows[0] as { value: string } | undefined)?.value;
  }

  async update(id: number, value: string): Promise<void> {
    await this.pool.query("UPDATE items SET value = $2 WHERE id = $1", [id, value]);
  }

  /** Adds an item. */
  async insert(id: number, value: string): Promise<void> {
    await this.pool.query("INSERT INTO items VALUES ($1, $2)", [id, value]);
  }

  /** Delays the next answer to a read of an item. */
  holdNext(): HeldLoad {
    const answered = Promise.withResolvers<string>();
    const released = Promise.withResolvers<void>();
    this.#held = { seen: answered.resolve, released: released.promise };
    return { answered: answered.promise, release: released.resolve };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pool.end();
  }

  async #loaded(rows: readonly unknown[]): Promise<void> {
    this.loads++;
    const held = this.#held;
    this.#held = undefined;
    held?.seen(valueIn(rows[0]));
    await held?.released;
  }
}

/** True if a statement, as text or as a query of `pg`, reads items. */
function isLoad(statement: unknown): boolean {
  const text = typeof statement === "string" ? statement : Object(statement).text;
  return /^select\b.*\bfrom "?items"?/is.test(String(text));
}

/** The value in a row, which an ORM may request as an array. */
function valueIn(row: unknown): string {
  if (Array.isArray(row)) return String(row.at(-1));
  return String(Object(row).value);
}
