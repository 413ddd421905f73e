import type {
  Cache,
  EntryOptions,
  Invalidation,
  Jsonify,
  Loader,
  Lookup,
  TableUse,
  WatchedTable,
} from "@lookaside/cache";
import { invalidatedBy } from "./apply.ts";
import {
  anyKey,
  anyTag,
  keyOf,
  labelOf,
  partsOf,
  rowName,
  type TableName,
  tableTag,
  textOf,
  type Value,
  valueOf,
  valueTag,
  whereKey,
} from "./names.ts";
import { assertDuration, assertOptions, type Types } from "./options.ts";

/** The key of a row: its value, or its values in the order of the key's columns. */
export type Key = Value | readonly Value[];

/** Values of columns. */
export type Filter<Row> = { readonly [Column in keyof Row]?: Value | null };

/** Options of {@linkcode table}, and of every entry of the table. */
export interface TableOptions extends Pick<EntryOptions, "graceMs" | "negativeTtlMs" | "refresh"> {
  /** Time for which its entries are fresh. */
  readonly ttlMs?: number;
  /** The columns of its key, in their order. Default `["id"]`. */
  readonly key?: readonly string[];
  /** The columns that `where()` may use; they are then checked at once, not at the first use. */
  readonly columns?: readonly string[];
}

const TABLE: Types<keyof TableOptions> = {
  ttlMs: "any",
  graceMs: "any",
  negativeTtlMs: "any",
  refresh: "boolean",
  key: "any",
  columns: "any",
};

/** Options of a list of rows. */
export interface ListOptions<T, V = Jsonify<T>> extends EntryOptions<T, V> {
  /** Distinguishes several queries with the same filter: `count`, `page 2`. */
  readonly as?: string;
}

/** A column and the value that its rows must have. */
type NamedValue = readonly [column: string, value: Value | null];

/** The methods of a cache that a {@linkcode Table} uses. */
export type TableCache = Pick<Cache, "getOrLoad" | "delete" | "invalidateTags" | "changes">;

/** The columns by which a process caches lists, by cache and table. */
const LISTED = new WeakMap<TableCache, Map<string, Set<string>>>();

/** Text forms in which equal values have the same text, by the type of their column. */
const FORMS: ReadonlyMap<string, RegExp> = new Map([
  ["integer", /^(0|-?[1-9]\d*)$/],
  ["boolean", /^(true|false)$/],
  ["uuid", /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/],
  ["date", /^(\d{4}|[1-9]\d{4,})-\d\d-\d\d$/],
  ["char", /(^|[^ ])$/],
  ["text", /^/],
]);

/**
 * A table of Postgres whose rows and lists are cached until they change, by any writer.
 *
 * @throws {TypeError} The name, an option or a column cannot be used. Postgres is asked about the table in the background;
 * an error is thrown by the next load.
 * @throws {RangeError} A duration is not a number of at least 0.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 * import { table } from "@lookaside/changes";
 *
 * await using cache = new Cache(); // without `changes` nobody could tell
 * const orders = table(cache, "orders", { columns: ["customer_id"], ttlMs: 60_000 });
 * assert.deepEqual(orders.tags({ id: 42 }), ["orders:42", "orders:*"]);
 * await assert.rejects(orders.row(42, () => Promise.resolve({ id: 42 })), TypeError);
 * ```
 */
export function table<Row extends object = Record<string, Value | null>>(
  cache: TableCache,
  name: TableName,
  options: TableOptions = {},
): Table<Row> {
  return new Table(cache, name, options);
}

/** The entries that depend on one table. Made by {@linkcode table}. */
export class Table<Row extends object = Record<string, Value | null>> {
  /** The prefix of all its names. */
  readonly label: string;
  readonly #cache: TableCache;
  readonly #options: Omit<TableOptions, "key" | "columns">;
  #use: TableUse;
  #known: WatchedTable | undefined;
  /** The columns by which lists are cached here. Others may be watched for other programs. */
  readonly #listed: Set<string>;
  /** Refused uses, by their columns. */
  readonly #refused = new Map<string, TypeError>();

  /** Checks the table in the background. */
  constructor(cache: TableCache, name: TableName, options: TableOptions) {
    const [schema, table] = partsOf(name);
    this.label = labelOf(name);
    assertOptions(options, TABLE, `these options of ${this.label}`);
    for (const name of ["ttlMs", "graceMs", "negativeTtlMs"] as const) {
      assertDuration(name, options[name], { min: 0, max: Infinity });
    }
    const { key = ["id"], columns = [], ...entryOptions } = options;
    for (const [option, names] of Object.entries({ key, columns })) {
      if (Array.isArray(names) && names.every((each) => typeof each === "string")) continue;
      throw new TypeError(`Cannot use ${option} of ${this.label}: it must be a list of columns`);
    }
    if (key.length === 0) throw new TypeError("Cannot use a table without a key");
    this.#cache = cache;
    this.#options = entryOptions;
    this.#listed = listedIn(cache, this.label);
    for (const column of columns) this.#listed.add(column);
    this.#use = { schema, name: table, key, columns };
    this.#checkInBackground(this.#use);
  }

  /**
   * Resolves to the table once it is known to be watched. Use it before giving {@linkcode Table.tags} to an
   * entry of your own, which might otherwise never be invalidated; other reads wait by themselves.
   *
   * @throws {TypeError} The table is not watched.
   */
  async watched(): Promise<this> {
    await this.#check(this.#use);
    return this;
  }

  /**
   * Answers a row from the cache or loads it. The entry is valid until the row with this key changes.
   *
   * @throws {TypeError} The table is not watched, or the key cannot be one of its keys.
   */
  async row<T = Row, V = Jsonify<T>>(
    key: Key,
    load: Loader<T>,
    options?: EntryOptions<T, V>,
  ): Promise<Lookup<NoInfer<V>>> {
    const values = Array.isArray(key) ? key as readonly Value[] : [key as Value];
    this.#assertKey(values);
    const check = () => this.#assertKey(values);
    return await this.#getOrLoad(rowName(this.label, keyOf(values)), [], { load, options, check });
  }

  /**
   * Answers a result for the rows with these values from the cache or loads it. The entry is valid until one of
   * these rows changes, is added or removed. Only the first watched column counts, so name the most selective
   * one first.
   *
   * @throws {TypeError} The table is not watched or has no such column, or equal values have several texts.
   */
  async where<T = Row[], V = Jsonify<T>>(
    filter: Filter<Row>,
    load: Loader<T>,
    { as = "", ...options }: ListOptions<T, V> = {},
  ): Promise<Lookup<NoInfer<V>>> {
    const named = namedIn(this.#given(filter));
    const tags = this.#tagsOf(named);
    const values = named.map(([column, value]) => valueOf(column, value));
    const check = () => void this.#tagsOf(named);
    const use = this.#useFor(named);
    const wanted = { load, options, check, use };
    return await this.#getOrLoad(whereKey(this.label, values, as), tags, wanted);
  }

  /** Answers a result for the whole table from the cache or loads it. The entry is valid until any row changes. */
  async any<T, V = Jsonify<T>>(
    name: string,
    load: Loader<T>,
    options?: EntryOptions<T, V>,
  ): Promise<Lookup<NoInfer<V>>> {
    return await this.#getOrLoad(anyKey(this.label, name), [anyTag(this.label)], { load, options });
  }

  /**
   * The tags of an entry that depends on rows: those with the given key or values; without filters, any row.
   *
   * @throws {TypeError} The table is known not to be watched with these columns.
   */
  tags(...filters: readonly Filter<Row>[]): string[] {
    const named = filters.map((filter) => namedIn(this.#given(filter)));
    const use = this.#useFor(named.flat());
    const refused = this.#refused.get(use.columns.join());
    if (refused !== undefined) throw refused;
    if (use !== this.#use) this.#checkInBackground(use);
    const tags = named.flatMap((each) => this.#tagsOf(each));
    if (filters.length === 0) tags.push(anyTag(this.label));
    return [...new Set([...tags, tableTag(this.label)])];
  }

  /**
   * Invalidates entries that depend on written rows, given as before and after the write; without rows, all of
   * the table. For writes that should not wait until Postgres reports them. Lists of other processes by columns that
   * the rows lack follow then.
   *
   * @throws {TypeError} A row lacks its key, or a column by which this process caches lists.
   */
  async invalidate(...rows: readonly Filter<Row>[]): Promise<Invalidation> {
    const watched = this.#known?.columns ?? [...this.#listed];
    // No list is cached by the others, whose values need not be plain.
    const columns = watched.filter((each) => this.#known?.types.get(each) !== "other");
    const values = rows.map((row) => this.#given(row)).flatMap((row) =>
      columns
        .filter((each) => this.#listed.has(each) || Reflect.get(row, each) !== undefined)
        .map((each) => valueOf(each, this.#in(row, each)))
    );
    const keys = rows.map((row) => this.#keyIn(row));
    const { keys: entries, tags } = invalidatedBy({
      table: this.label,
      keys: rows.length === 0 ? undefined : [...new Set(keys)],
      values: [...new Set(values)],
    });
    const outcomes = await Promise.all([
      this.#cache.delete(...entries),
      this.#cache.invalidateTags(...tags),
    ]);
    return outcomes.includes("pending") ? "pending" : "applied";
  }

  /** A hit does not wait for Postgres. A load begins only once it is known that its value may be stored. */
  #getOrLoad<T, V>(
    key: string,
    tags: readonly string[],
    { load, options, check, use = this.#use }: {
      readonly load: Loader<T>;
      readonly options: EntryOptions<T, V> | undefined;
      readonly check?: () => void;
      readonly use?: TableUse;
    },
  ): Promise<Lookup<V>> {
    const checked: Loader<T> = async (context) => {
      await this.#check(use);
      check?.();
      return await load(context);
    };
    return this.#cache.getOrLoad(key, checked, {
      ...this.#options,
      ...options,
      tags: [...new Set([...options?.tags ?? [], ...tags, tableTag(this.label)])],
    });
  }

  async #check(use: TableUse): Promise<void> {
    try {
      this.#known = await this.#cache.changes.watched(use);
      this.#use = { ...use, columns: [...new Set([...this.#use.columns, ...use.columns])] };
      this.#refused.delete(use.columns.join());
    } catch (error) {
      if (error instanceof TypeError) this.#refused.set(use.columns.join(), error);
      throw error;
    }
  }

  #checkInBackground(use: TableUse): void {
    // The next load throws it, and `onError` of the source gets it.
    this.#check(use).catch(() => undefined);
  }

  /** This use of the table, with the first of these columns if none of them is watched yet. */
  #useFor(named: readonly NamedValue[]): TableUse {
    const { key, columns } = this.#use;
    const given = named.map(([column]) => column);
    if (key.every((column) => given.includes(column))) return this.#use;
    if (given.some((column) => columns.includes(column) || this.#known?.columns.includes(column))) {
      return this.#use;
    }
    return given[0] === undefined ? this.#use : { ...this.#use, columns: [...columns, given[0]] };
  }

  /** The tags of the rows with these values. If no column is known to be watched yet: those of all columns. */
  #tagsOf(given: readonly NamedValue[]): string[] {
    const { key } = this.#use;
    const values = new Map(given);
    const ofKey = key.map((column) => values.get(column)).filter((value) => value !== undefined);
    if (ofKey.length === key.length && !ofKey.includes(null)) {
      this.#assertKey(ofKey as Value[]);
      return [rowName(this.label, keyOf(ofKey as Value[]))];
    }
    if (given.length === 0) {
      throw new TypeError(`Cannot filter ${this.label}: name at least one column`);
    }
    const known = this.#known;
    for (const [column] of given) {
      if (known !== undefined && !known.types.has(column)) {
        throw new TypeError(
          `Cannot use ${this.label}.${column}: there is no such column, or watch() leaves it out of matter`,
        );
      }
    }
    const watched = given.filter(([column]) => known?.columns.includes(column));
    const [first] = watched.filter(([column]) => known?.types.get(column) !== "other");
    if (first !== undefined) {
      this.#assertForm(...first);
      this.#listed.add(first[0]);
      return [valueTag(this.label, valueOf(...first))];
    }
    if (watched[0] !== undefined) {
      throw new TypeError(
        `Cannot use ${this.label}.${
          watched[0][0]
        }: Postgres prints equal values of its type differently`,
      );
    }
    for (const [column] of given) this.#listed.add(column);
    return given.map((each) => valueTag(this.label, valueOf(...each)));
  }

  #assertKey(values: readonly Value[]): void {
    const { key } = this.#use;
    if (values.length !== key.length) {
      throw new TypeError(
        `Cannot find a row of ${this.label} by ${values.length} values: its key has ${key.length}`,
      );
    }
    values.forEach((value, i) => this.#assertForm(key[i] ?? "", value));
  }

  /** Changes are reported with the text that Postgres gives a value, so another text would miss them. */
  #assertForm(column: string, value: Value | null): void {
    if (value === null) return;
    const text = textOf(value);
    const type = this.#known?.types.get(column);
    if (type === undefined || FORMS.get(type)?.test(text)) return;
    const why = type === "other"
      ? "Postgres prints equal values of its type differently"
      : `Postgres prints ${type} otherwise`;
    throw new TypeError(`Cannot use ${JSON.stringify(text)} as ${this.label}.${column}: ${why}`);
  }

  #given(row: Filter<Row>): Filter<Row> {
    if (typeof row === "object" && row !== null && !Array.isArray(row)) return row;
    const kind = row === null ? "null" : Array.isArray(row) ? "an array" : typeof row;
    throw new TypeError(
      `Cannot use ${kind} as a row of ${this.label}: pass its columns, such as { ${
        this.#use.key[0]
      }: … }`,
    );
  }

  #keyIn(row: Filter<Row>): string {
    const values = this.#use.key.map((column) => this.#in(row, column));
    if (values.includes(null)) {
      throw new TypeError(`Cannot invalidate a row of ${this.label}: a key cannot be null`);
    }
    this.#assertKey(values as Value[]);
    return keyOf(values as Value[]);
  }

  #in(row: Filter<Row>, column: string): Value | null {
    const value = Reflect.get(row, column);
    if (value === undefined) {
      throw new TypeError(`Cannot invalidate a row of ${this.label}: it lacks ${column}`);
    }
    return value;
  }
}

/** The columns and values of a filter. A column given as undefined counts as not given. */
function namedIn<Row>(filter: Filter<Row>): NamedValue[] {
  const all: [string, Value | null | undefined][] = Object.entries(filter);
  return all.filter((each): each is [string, Value | null] => each[1] !== undefined);
}

/** The columns by which lists of a table are cached in a cache, whichever part of the program does it. */
function listedIn(cache: TableCache, label: string): Set<string> {
  const tables = LISTED.get(cache) ?? new Map<string, Set<string>>();
  const columns = tables.get(label) ?? new Set();
  LISTED.set(cache, tables.set(label, columns));
  return columns;
}
