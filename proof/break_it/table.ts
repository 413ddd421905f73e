import postgres from "postgres";

/** Number of rows: few, so that each is read often. */
export const ROWS_COUNT = 12;

const CREATE = "CREATE TABLE items (id integer PRIMARY KEY, version integer NOT NULL)";
const CONNECTIONS_MAX = 6;

/** The table that both caches read and write, in a separate database. */
export class Table implements AsyncDisposable {
  readonly #sql: postgres.Sql;

  private constructor(sql: postgres.Sql) {
    this.#sql = sql;
  }

  /** Makes the table in an empty database. */
  static async create(url: string): Promise<Table> {
    const sql = postgres(url, { max: CONNECTIONS_MAX, onnotice: () => undefined });
    await sql.unsafe(CREATE);
    await sql`INSERT INTO items SELECT id, 0 FROM generate_series(1, ${ROWS_COUNT}) AS id`;
    return new Table(sql);
  }

  /** The version of a row. */
  async find(id: number): Promise<number> {
    const [row] = await this.#sql<
      { version: number }[]
    >`SELECT version FROM items WHERE id = ${id}`;
    return row?.version ?? 0;
  }

  /** Sets the version of a row, and commits. */
  async update(id: number, version: number): Promise<void> {
    await this.#sql`UPDATE items SET version = ${version} WHERE id = ${id}`;
  }

  /** Sets the version of all rows in one statement, and commits. */
  async updateAll(version: number): Promise<void> {
    await this.#sql`UPDATE items SET version = ${version}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sql.end({ timeout: 1 });
  }
}
