/**
 * Rows of a declared table: reads and writes by its primary key.
 *
 * @module
 */
import DataLoader from "dataloader";
import { isOfRight, MissingRightError } from "./advice.ts";
import { DatabaseUnavailableError, type Queryable, type SqlValue } from "./database.ts";
import { stringifyDigits } from "./json_digits.ts";
import { RefusedWriteError, toldOfWrite } from "./refused_write.ts";
import { readShape, type TableColumns, type TableShape } from "./table_shape.ts";
import {
  type Key,
  keyText,
  type ListOptions,
  MARK,
  type Row,
  Statements,
  type Written,
} from "./table_statements.ts";

/** Conditions and marks of a write. */
export interface WriteOptions {
  /** A mark of the content that the row must have. */
  readonly mark?: string | undefined;
  /** A mark that the transaction carries. */
  readonly writer?: string | undefined;
}

/** Limit of keys in one query. */
const BATCH_SIZE_MAX = 500;
/**
 * Reads and writes rows, and stores none: every read is a query that is sent after the read began. Every method
 * rejects with a `DatabaseUnavailableError` if Postgres is unavailable, and with a `DeclarationError` if the
 * table is not as declared, and with a `MissingRightError` if the role lacks a right.
 */
export class TableRows {
  readonly #database: Queryable;
  readonly #asked: TableColumns;
  readonly #byKey: DataLoader<Key, Row | undefined, string>;
  #statements: Statements | undefined;
  #reading: Promise<Statements> | undefined;
  #lacking: Promise<readonly string[]> | undefined;

  /** Reads and writes through `database`: a pool, or one transaction. */
  constructor(database: Queryable, asked: TableColumns) {
    this.#database = database;
    this.#asked = asked;
    // A read must not be answered by a query that was sent before the read began:
    //   1. read A is batched, and its query is sent
    //   2. a write commits and is acknowledged
    //   3. read B begins, and joins A's batch: it would answer the row from before the write
    // DataLoader closes a batch in the same synchronous step in which it calls the function below, which
    // sends the query before its first await. So a read that finds the batch open began before the query
    // was sent. DataLoader's cache, which keeps promises beyond their query, is off.
    this.#byKey = new DataLoader((keys) => this.#load(keys), {
      cache: false,
      maxBatchSize: BATCH_SIZE_MAX,
    });
  }

  /** The shape of the table, read once. */
  async shape(): Promise<TableShape> {
    return (await this.#prepared()).shape;
  }

  /** The row, or `undefined` if there is none. Calls in the same tick share one query. */
  async find(key: Key): Promise<Row | undefined> {
    if (this.#statements === undefined) await this.#prepared();
    return await this.#byKey.load(key);
  }

  /** The existing rows among `keys`, by the text of their keys. */
  async findMany(keys: readonly Key[]): Promise<Map<string, Row>> {
    const statements = await this.#prepared();
    const found = new Map<string, Row>();
    for (let start = 0; start < keys.length; start += BATCH_SIZE_MAX) {
      for (const row of await this.#select(statements, keys.slice(start, start + BATCH_SIZE_MAX))) {
        found.set(statements.textOf(row), row);
      }
    }
    return found;
  }

  /** Rows in the order of their keys. */
  async list(options: ListOptions): Promise<Row[]> {
    let statements = await this.#prepared();
    if (!statements.canHold(options.where)) {
      // Perhaps the enum has got a label since.
      this.#reading = undefined;
      statements = await this.#prepared();
      if (!statements.canHold(options.where)) return [];
    }
    const { text, values } = statements.list(options);
    return statements.rowsOf(await this.#query(text, values));
  }

  /** The row and a mark of its content, for a write that requires this content. */
  async findMarked(key: Key): Promise<{ readonly row: Row; readonly mark: string } | undefined> {
    const statements = await this.#prepared();
    const [found] = await this.#query(statements.marked, [...key]);
    if (found === undefined) return undefined;
    const { [MARK]: mark, ...selected } = found;
    const [row] = statements.rowsOf([selected]);
    return row === undefined ? undefined : { row, mark: String(mark) };
  }

  /** Inserts a row. Omitted columns get their defaults. */
  async create(fields: Row, { writer = "" }: WriteOptions = {}): Promise<Written> {
    const statements = await this.#prepared();
    const columns = this.#writable(fields);
    const values = columns.length === 0 ? [writer] : [writer, stringifyDigits(fields)];
    const written = await this.#write(statements, statements.insert(columns), values);
    if (written === undefined) throw new RefusedWriteError("constraint", [], undefined);
    return written;
  }

  /**
   * Overwrites all writable columns; omitted ones get their defaults, but those of the key stay. `undefined`:
   * there is no such row, or its content is not the required one.
   */
  async replace(key: Key, fields: Row, options?: WriteOptions): Promise<Written | undefined> {
    const { shape } = await this.#prepared();
    const keyNames = new Set(shape.key.map(({ name }) => name));
    const columns = this.#asked.writable.filter((name) =>
      Object.hasOwn(fields, name) || !keyNames.has(name)
    );
    return await this.#update(key, fields, columns, options);
  }

  /** Overwrites the given columns; `null` is a value. `undefined`: as {@linkcode TableRows.replace}. */
  async update(key: Key, fields: Row, options?: WriteOptions): Promise<Written | undefined> {
    return await this.#update(key, fields, this.#writable(fields), options);
  }

  /** Deletes a row. `undefined`: as {@linkcode TableRows.replace}. */
  async remove(key: Key, { mark, writer = "" }: WriteOptions = {}): Promise<Written | undefined> {
    const statements = await this.#prepared();
    const text = statements.remove(mark !== undefined);
    const values = [...key, writer, ...(mark === undefined ? [] : [mark])];
    return await this.#write(statements, text, values);
  }

  async #update(
    key: Key,
    fields: Row,
    columns: readonly string[],
    { mark, writer = "" }: WriteOptions = {},
  ): Promise<Written | undefined> {
    const statements = await this.#prepared();
    const given = new Set(this.#writable(fields));
    const text = statements.update(columns, { given, marked: mark !== undefined });
    const values = [...key, writer, stringifyDigits(fields), ...(mark === undefined ? [] : [mark])];
    return await this.#write(statements, text, values);
  }

  /** The given columns that are writable: no other name becomes part of a statement. */
  #writable(fields: Row): string[] {
    return this.#asked.writable.filter((name) => Object.hasOwn(fields, name));
  }

  async #write(
    statements: Statements,
    text: string,
    values: readonly SqlValue[],
  ): Promise<Written | undefined> {
    try {
      const [row] = await this.#database.query<Row>(text, values);
      return row && statements.writtenOf(row);
    } catch (error) {
      const columnsOf = (constraint: string) => statements.shape.constraints.get(constraint);
      throw await this.#told(toldOfWrite(error, columnsOf));
    }
  }

  async #query(text: string, values: readonly SqlValue[]): Promise<Row[]> {
    try {
      return await this.#database.query<Row>(text, values);
    } catch (error) {
      throw await this.#told(error);
    }
  }

  /** Names the SQL that gives a missing right. Statements that fail meanwhile share the look for it. */
  async #told(error: unknown): Promise<unknown> {
    if (!(error instanceof Error) || !isOfRight(error)) return error;
    this.#lacking ??= readShape(this.#database, this.#asked).then(
      ({ advice }) => advice.map(({ statement }) => statement),
      () => [],
    ).finally(() => this.#lacking = undefined);
    const grants = (await this.#lacking).filter((statement) => statement.startsWith("GRANT"));
    const remedy = grants.length > 0 ? `: run ${grants.join("; ")}` : "";
    return new MissingRightError(error.message + remedy, { cause: error });
  }

  #prepared(): Promise<Statements> {
    this.#reading ??= readShape(this.#database, this.#asked).then((shape) => {
      return this.#statements = new Statements(shape, this.#asked);
    }).catch(async (error) => {
      this.#reading = undefined; // the next call asks again
      throw await this.#told(error);
    });
    return this.#reading;
  }

  async #load(keys: readonly Key[]): Promise<(Row | undefined)[]> {
    const statements = this.#statements;
    if (statements === undefined) {
      throw new DatabaseUnavailableError("Cannot read: the columns of the table are not known yet");
    }
    const rows = await this.#select(statements, keys);
    // Not by digits alone: V8 hashes those by their number, so that keys of neighbouring rows collide.
    const byText = new Map(rows.map((row) => [`#${statements.textOf(row)}`, row]));
    return keys.map((key) => byText.get(`#${keyText(key)}`));
  }

  async #select(statements: Statements, keys: readonly Key[]): Promise<Row[]> {
    const values = statements.shape.key.map((_, at) => keys.map((key) => key[at] ?? ""));
    return statements.rowsOf(await this.#query(statements.select, values));
  }
}
