/**
 * The SQL statements of a declared table.
 *
 * @module
 */
import type { SqlValue } from "./database.ts";
import { quoteIdentifier } from "./quote_identifier.ts";
import type { Column, TableColumns, TableShape } from "./table_shape.ts";

/** The text of each column of a primary key, in the order of the key. */
export type Key = readonly string[];

/** A row as JSON. */
export type Row = Readonly<Record<string, unknown>>;

/** Texts of values by column; `null`: the column is NULL. */
export type Values = Readonly<Record<string, string | null>>;

/** A written row, with its filter values before and after. */
export interface Written {
  /** The row after the write, or the one that was deleted. */
  readonly row: Row;
  /** The values of the filters before and after. */
  readonly touched: readonly Values[];
}

/** The rows of a list. */
export interface ListOptions {
  /** Values that the filter columns must have. */
  readonly where: Values;
  /** Number of rows. */
  readonly limit: number;
  /** Number of rows to skip. Its cost grows with the number. */
  readonly offset?: number;
  /** The key after which the rows begin. Costs the same for any key. */
  readonly after?: Key;
}

/** Prefix of the names of filter values before a write. */
const BEFORE = "<";
const AFTER = ">";

/** Joins the columns of a key; their texts are escaped, so that different keys have different texts. */
const JOINER = ",";

/** The text of a key, as a key of the result of {@linkcode TableRows.findMany}. */
export function keyText(key: Key): string {
  return key.length === 1 ? key[0] ?? "" : key.map(encodeURIComponent).join(JOINER);
}

/** The name of the mark of a row's content. */
export const MARK = "#";

/** The name of a column that is selected only for its effect. */
const EFFECT = "!";

/** Makes the statements, and rows from their results. */
export class Statements {
  readonly shape: TableShape;
  /** Selects rows by keys, with one array for each key column. */
  readonly select: string;
  /** Selects one row with its mark. */
  readonly marked: string;
  readonly #columns: string;
  readonly #mark: string;
  readonly #filters: readonly string[];
  readonly #decoded: readonly Column[];

  /** @param shape The shape of the table whose `filters` are given. */
  constructor(shape: TableShape, { filters }: TableColumns) {
    this.shape = shape;
    this.#filters = filters;
    const columns = [...shape.columns.values()];
    this.#decoded = columns.filter(({ decode }) => decode !== undefined);
    this.#columns = columns.map(({ name, expression }) =>
      `${expression} AS ${quoteIdentifier(name)}`
    ).join(", ");
    this.#mark = `md5(ROW(${columns.map(({ expression }) => expression).join(", ")})::text)`;
    this.select = `SELECT ${this.#columns} FROM ${shape.from} AS t WHERE ${this.#isAny()}`;
    this.marked = `SELECT ${this.#columns}, ${this.#mark} AS ${quoteIdentifier(MARK)}
      FROM ${shape.from} AS t WHERE ${this.#isKey()}`;
  }

  /** Selected rows, as JSON. */
  rowsOf(rows: readonly Row[]): Row[] {
    return this.#decoded.length === 0 ? [...rows] : rows.map((row) => this.#rowOf(row));
  }

  /** The text of a row's key. */
  textOf(row: Row): string {
    return keyText(this.shape.key.map(({ name }) => String(row[name])));
  }

  /** Makes a written row from the result of a write. */
  writtenOf(selected: Row): Written {
    const row: Record<string, unknown> = {};
    const touched: Record<string, Record<string, string | null>> = {};
    for (const [name, value] of Object.entries(selected)) {
      if (name === EFFECT) continue;
      if (this.shape.columns.has(name)) row[name] = value;
      else (touched[name.charAt(0)] ??= {})[name.slice(1)] = value === null ? null : String(value);
    }
    return { row: this.#rowOf(row), touched: Object.values(touched) };
  }

  /** True if there can be rows with those values. Postgres rejects a label that is not in an enum. */
  canHold(where: Values): boolean {
    return Object.entries(where).every(([name, value]) =>
      this.shape.columns.get(name)?.labels?.includes(value ?? "") ?? true
    );
  }

  /** A list in the order of keys. */
  list({ where, limit, offset, after }: ListOptions): { text: string; values: SqlValue[] } {
    const values: SqlValue[] = [];
    const bound = (value: SqlValue) => `$${values.push(value)}`;
    const conditions = Object.entries(where).map(([name, value]) => {
      const column = this.shape.columns.get(name);
      return `t.${quoteIdentifier(name)} = ${bound(value)}::${column?.type}`;
    });
    if (after !== undefined) {
      const keys = this.shape.key.map(({ type }, at) => `${bound(after[at] ?? "")}::${type}`);
      conditions.push(`(${this.#keyNames()}) > (${keys.join(", ")})`);
    }
    const condition = conditions.length === 0 ? "" : `WHERE ${conditions.join(" AND ")}`;
    const text = `SELECT ${this.#columns} FROM ${this.shape.from} AS t ${condition}
      ORDER BY ${this.#keyNames()} LIMIT ${bound(limit)} OFFSET ${bound(offset ?? 0)}`;
    return { text, values };
  }

  /** An INSERT of the values in a JSON text, which is bound after the writer's mark. */
  insert(columns: readonly string[]): string {
    const { from } = this.shape;
    if (columns.length === 0) {
      return `INSERT INTO ${from} AS t DEFAULT VALUES RETURNING ${this.#returned("$1")}`;
    }
    const names = columns.map(quoteIdentifier);
    return `INSERT INTO ${from} AS t (${names.join(", ")})
      SELECT ${names.map((name) => `v.${name}`).join(", ")} FROM ${this.#record("$2", columns)}
      RETURNING ${this.#returned("$1")}`;
  }

  /**
   * An UPDATE to the values in a JSON text; omitted columns get their defaults. Bound are the key, the writer's
   * mark, the text, and the mark of the content.
   */
  update(
    columns: readonly string[],
    { given, marked }: { readonly given: ReadonlySet<string>; readonly marked: boolean },
  ): string {
    const { from, key } = this.shape;
    const json = `$${key.length + 2}`;
    const assignments = columns.map((name) => {
      const column = quoteIdentifier(name);
      return `${column} = ${given.has(name) ? `v.${column}` : "DEFAULT"}`;
    });
    const sources = given.size === 0 ? [] : [this.#record(json, [...given])];
    const before = this.#filters.length === 0 ? [] : [
      `(SELECT ${this.#filters.map(quoteIdentifier).join(", ")}
        FROM ${from} AS t WHERE ${this.#isKey()} FOR UPDATE) AS o`,
    ];
    const all = [...sources, ...before];
    const returned = this.#returned(`$${key.length + 1}`, before.length > 0);
    const isMarked = marked ? `AND ${this.#mark} = $${key.length + 3}` : "";
    const isBound = given.size === 0 ? `AND ${json}::text IS NOT NULL` : "";
    const condition = `WHERE ${this.#isKey()} ${isMarked} ${isBound}`;
    // SQL wants an assignment, and a key that Postgres alone writes takes none.
    if (columns.length === 0) {
      const tables = [`${from} AS t`, ...all].join(", ");
      return `SELECT ${returned} FROM ${tables} ${condition} FOR UPDATE OF t`;
    }
    return `UPDATE ${from} AS t SET ${assignments.join(", ")}
      ${all.length === 0 ? "" : `FROM ${all.join(", ")}`} ${condition} RETURNING ${returned}`;
  }

  /** A DELETE. Bound are the key, the writer's mark, and the mark of the content. */
  remove(marked: boolean): string {
    const { from, key } = this.shape;
    return `DELETE FROM ${from} AS t
      WHERE ${this.#isKey()} ${marked ? `AND ${this.#mark} = $${key.length + 2}` : ""}
      RETURNING ${this.#returned(`$${key.length + 1}`)}`;
  }

  #rowOf(selected: Row): Row {
    if (this.#decoded.length === 0) return selected;
    const row: Record<string, unknown> = { ...selected };
    for (const { name, decode } of this.#decoded) {
      const text = row[name];
      if (typeof text === "string") row[name] = decode?.(text);
    }
    return row;
  }

  /**
   * The written row. Also sets the writer's mark for the transaction, since triggers of statements fire afterwards.
   */
  #returned(writer: string, before = false): string {
    const touched = this.#filters.flatMap((name) => {
      const column = quoteIdentifier(name);
      const of = (table: string, prefix: string) =>
        `${table}.${column}::text AS ${quoteIdentifier(prefix + name)}`;
      return before ? [of("o", BEFORE), of("t", AFTER)] : [of("t", AFTER)];
    });
    const marked = `set_config('lookaside.writer', ${writer}::text, TRUE) AS ${
      quoteIdentifier(EFFECT)
    }`;
    return [this.#columns, ...touched, marked].join(", ");
  }

  /** The values of a body, each parsed as the type of its column. */
  #record(json: string, columns: readonly string[]): string {
    const typed = columns.map((name) => `${quoteIdentifier(name)} ${this.shape.types.get(name)}`);
    return `json_to_record(${json}::text::json) AS v(${typed.join(", ")})`;
  }

  #keyNames(): string {
    return this.shape.key.map(({ name }) => `t.${quoteIdentifier(name)}`).join(", ");
  }

  /**
   * The row with the bound key, letter for letter. A type or collation may take other texts for equal (`citext`),
   * and the cache knows a row by one of them only.
   */
  #isKey(): string {
    return this.shape.key.map(({ name, type, plain }, at) => {
      const column = `t.${quoteIdentifier(name)}`;
      const value = `$${at + 1}`;
      if (plain !== "text") return `${column} = ${value}::${type}`;
      return `${column} = ${value}::text::${type} AND ${column}::text = ${value}::text COLLATE "C"`;
    }).join(" AND ");
  }

  #isAny(): string {
    const [first, ...others] = this.shape.key;
    if (first !== undefined && others.length === 0) {
      return `t.${quoteIdentifier(first.name)} = ANY($1::${first.type}[])`;
    }
    const arrays = this.shape.key.map(({ type }, at) => `$${at + 1}::${type}[]`);
    return `(${this.#keyNames()}) IN (SELECT * FROM unnest(${arrays.join(", ")}))`;
  }
}
