/**
 * The users repository.
 *
 * @module
 */
import DataLoader from "dataloader";
import type { Queryable, SqlValue } from "./database.ts";

/** A row of `users`. */
export interface User {
  /** The primary key. */
  readonly id: number;
  /** Up to 100 characters. */
  readonly name: string | null;
  /** Up to 100 characters. */
  readonly email: string | null;
  /** Any length. */
  readonly bio: string | null;
  /** When the row was inserted. */
  readonly created_at: Date;
}

/** Every column that a caller may write. */
export interface UserFields {
  /** Up to 100 characters. */
  readonly name: string | null;
  /** Up to 100 characters. */
  readonly email: string | null;
  /** Any length. */
  readonly bio: string | null;
}

const COLUMNS = "id, name, email, bio, created_at";
/** The only names that reach the text of an `UPDATE`. */
const WRITABLE_COLUMNS = ["name", "email", "bio"] as const;
/** The most ids in one query. */
const BATCH_SIZE_MAX = 500;
/** `id` is a 32-bit integer, so there is no row past it, however deep a page is asked for. */
const ID_MAX = 2 ** 31 - 1;

/**
 * Reads and writes users. Holds no rows: every read is a query that is sent after the read began.
 * Every method rejects with a `DatabaseUnavailableError` while Postgres cannot answer.
 */
export class Users {
  readonly #database: Queryable;
  readonly #byId: DataLoader<number, User | undefined>;

  /** Reads and writes through `database`: a pool, or one transaction. */
  constructor(database: Queryable) {
    this.#database = database;
    // Who may join whom. A read must not be answered by a query that was sent before it began:
    //   1. read A is batched, and its query is sent
    //   2. a write commits and is acknowledged
    //   3. read B begins, and joins A's batch: it would answer the row from before the write
    // DataLoader marks a batch as dispatched in the same synchronous step that calls the function
    // below, and that function hands the query on before its first await. So whoever still finds the
    // batch open began before the query left. Its cache, which keeps promises beyond their query, is off.
    this.#byId = new DataLoader((ids) => this.#load(ids), {
      cache: false,
      maxBatchSize: BATCH_SIZE_MAX,
    });
  }

  /** The user, or `undefined` if there is none. Finds of one tick share one query. */
  find(id: number): Promise<User | undefined> {
    return this.#byId.load(id);
  }

  /** The users there are among `ids`, by id. */
  async findMany(ids: readonly number[]): Promise<Map<number, User>> {
    const found = new Map<number, User>();
    for (let start = 0; start < ids.length; start += BATCH_SIZE_MAX) {
      const users = await this.#select(ids.slice(start, start + BATCH_SIZE_MAX));
      for (const user of users) found.set(user.id, user);
    }
    return found;
  }

  /** One page in the order of ids. `page` counts from 1. Costs more the deeper the page is. */
  list(options: { readonly page: number; readonly limit: number }): Promise<User[]> {
    const offset = (options.page - 1) * options.limit;
    if (offset > ID_MAX) return Promise.resolve([]);
    return this.#database.query<User>(
      `SELECT ${COLUMNS} FROM users ORDER BY id LIMIT $1 OFFSET $2`,
      [options.limit, offset],
    );
  }

  /** The `limit` users whose ids follow `after`. Costs the same wherever it starts. */
  listAfter(options: { readonly after: number; readonly limit: number }): Promise<User[]> {
    return this.#database.query<User>(
      `SELECT ${COLUMNS} FROM users WHERE id > $1 ORDER BY id LIMIT $2`,
      [options.after, options.limit],
    );
  }

  /** Inserts a user and answers it. */
  async create(fields: UserFields): Promise<User> {
    const [user] = await this.#database.query<User>(
      `INSERT INTO users (name, email, bio) VALUES ($1, $2, $3) RETURNING ${COLUMNS}`,
      [fields.name, fields.email, fields.bio],
    );
    if (user === undefined) throw new Error("Cannot create a user: a rule or trigger dropped it");
    return user;
  }

  /** Overwrites every field. Answers the user after the write, or `undefined` if there is none. */
  async replace(id: number, fields: UserFields): Promise<User | undefined> {
    const [user] = await this.#database.query<User>(
      `UPDATE users SET name = $2, email = $3, bio = $4 WHERE id = $1 RETURNING ${COLUMNS}`,
      [id, fields.name, fields.email, fields.bio],
    );
    return user;
  }

  /**
   * Overwrites the fields that are given; `null` is a value. Answers the user after the write, or
   * `undefined` if there is none.
   */
  async update(id: number, changes: Partial<UserFields>): Promise<User | undefined> {
    const values: SqlValue[] = [id];
    const assignments: string[] = [];
    for (const column of WRITABLE_COLUMNS) {
      const value = changes[column];
      if (value === undefined) continue;
      values.push(value);
      assignments.push(`${column} = $${values.length}`);
    }
    if (assignments.length === 0) return this.find(id);
    const [user] = await this.#database.query<User>(
      `UPDATE users SET ${assignments.join(", ")} WHERE id = $1 RETURNING ${COLUMNS}`,
      values,
    );
    return user;
  }

  /** Deletes a user. Answers whether there was one. */
  async remove(id: number): Promise<boolean> {
    const rows = await this.#database.query(
      "DELETE FROM users WHERE id = $1 RETURNING id",
      [id],
    );
    return rows.length > 0;
  }

  async #load(ids: readonly number[]): Promise<(User | undefined)[]> {
    const users = new Map((await this.#select(ids)).map((user) => [user.id, user]));
    return ids.map((id) => users.get(id));
  }

  #select(ids: readonly number[]): Promise<User[]> {
    return this.#database.query<User>(
      `SELECT ${COLUMNS} FROM users WHERE id = ANY($1)`,
      [[...new Set(ids)]],
    );
  }
}
