/**
 * Declared tables, bound to their database.
 *
 * @module
 */
import type { BatchLoader, Cache, EntryOptions } from "../cache/mod.ts";
import {
  anyKey,
  anyTag,
  keyOf,
  labelOf,
  rowName,
  tableTag,
  valueOf,
  valueTag,
  whereKey,
} from "../changes/names.ts";
import { DatabaseUnavailableError, type Queryable } from "../db/database.ts";
import { TableRows } from "../db/table_rows.ts";
import { type Key, keyText, type Row, type Values } from "../db/table_statements.ts";
import { KeyReader, type PlainColumn, suggestedKey } from "./_table_keys.ts";
import { QueryReader } from "./_table_query.ts";
import { assertServable, columnsOf, type Resource } from "./resource.ts";

/** Reads and writes of the rows of one table. */
export type Rows = Pick<TableRows, keyof TableRows>;

/** The valid inputs of requests for a table. */
export interface Inputs {
  /** Keys in paths. */
  readonly keys: KeyReader;
  /** Queries of lists. */
  readonly query: QueryReader;
}

/** A declared table. */
export class Table {
  /** The declaration. */
  readonly resource: Resource;
  readonly rows: Rows;
  /** Prefix of its cache keys. */
  readonly keyPrefix: string;
  /** Cache options of a row. */
  readonly rowOptions: EntryOptions<Row>;
  readonly #label: string;
  #inputs: Inputs | undefined;
  #checked = false;

  /** @param rows The rows of the table that `resource` declares. */
  constructor(resource: Resource, rows: Rows) {
    this.resource = resource;
    this.rows = rows;
    this.#label = labelOf(resource.name);
    this.keyPrefix = `${this.#label}:`;
    const ttl = resource.ttlMs === undefined ? {} : { ttlMs: resource.ttlMs };
    this.rowOptions = { ...ttl, tags: [tableTag(this.#label)] };
  }

  /**
   * The valid inputs; `undefined` until {@linkcode Table.known} has asked Postgres. Those that the schema suggests
   * are used until Postgres has answered, which is asked again meanwhile.
   */
  get inputs(): Inputs | undefined {
    // Without waiting, since a cached row needs no Postgres; whoever reads the table reports a failure.
    if (!this.#checked && this.#inputs !== undefined) void this.check().catch(() => undefined);
    return this.#inputs;
  }

  /**
   * The valid inputs. If Postgres has been down since the start, those that the schema suggests, so that cached
   * rows can still be answered.
   *
   * @throws {DatabaseUnavailableError} The schema does not suffice: types of filters and composite keys come
   * from Postgres.
   */
  async known(): Promise<Inputs> {
    try {
      return await this.check();
    } catch (error) {
      const suggested = this.resource.filters.length === 0
        ? suggestedKey(this.resource)
        : undefined;
      if (suggested === undefined || !(error instanceof DatabaseUnavailableError)) throw error;
      return this.#inputs ??= inputsOf(this.resource, suggested, []);
    }
  }

  /**
   * Reads the columns and the key of the table.
   *
   * @throws {DeclarationError} It cannot be served as declared.
   * @throws {DatabaseUnavailableError} Postgres is unavailable.
   */
  async check(): Promise<Inputs> {
    if (this.#checked && this.#inputs !== undefined) return this.#inputs;
    const { key, columns } = await this.rows.shape();
    const filters = this.resource.filters.flatMap((name) => columns.get(name) ?? []);
    this.#inputs = inputsOf(this.resource, key, filters);
    this.#checked = true;
    return this.#inputs;
  }

  /** Loads the rows for cache keys; `keys` maps these to keys of the table. */
  batchLoader(keys: ReadonlyMap<string, Key>): BatchLoader<Row> {
    return async (missing) => {
      const wanted = missing.map((name) => keys.get(name) ?? []);
      const found = await this.rows.findMany(wanted);
      return new Map(wanted.flatMap((key, at) => {
        const row = found.get(keyText(key));
        return row === undefined ? [] : [[missing[at] ?? "", row]];
      }));
    };
  }

  /** The key of the row that a cache key stands for; `undefined`: the cache key stands for no row. */
  keyOfName(name: string): Key | undefined {
    if (!name.startsWith(this.keyPrefix)) return undefined;
    const text = name.slice(this.keyPrefix.length);
    return /[#?/]/.test(text) ? undefined : this.#inputs?.keys.read(text);
  }

  /** The cache key and options of a list. */
  listEntry(where: Values, range: string): { readonly key: string; readonly tags: string[] } {
    const values = Object.entries(where).map(([name, value]) => valueOf(name, value));
    const key = values.length === 0
      ? anyKey(this.#label, range)
      : whereKey(this.#label, values, range);
    return { key, tags: [tableTag(this.#label), anyTag(this.#label)] };
  }

  /** The names that a write of a row invalidates, given its keys and filter values before and after it. */
  invalidatedBy(
    keys: readonly Key[],
    touched: readonly Values[],
  ): { keys: string[]; tags: string[] } {
    const values = touched.flatMap((each) =>
      Object.entries(each).map(([name, value]) => valueTag(this.#label, valueOf(name, value)))
    );
    const rows = [...new Set(keys.map((key) => rowName(this.#label, keyOf(key))))];
    return { keys: rows, tags: [...new Set([...rows, ...values, anyTag(this.#label)])] };
  }
}

/**
 * Binds declarations to the database.
 *
 * @throws {DeclarationError} A declaration cannot be served, regardless of its table.
 */
export function openTables(resources: readonly Resource[], database: Queryable): Table[] {
  assertServable(resources);
  return resources.map((each) => new Table(each, new TableRows(database, columnsOf(each))));
}

/** Reads the most requested rows ahead of demand, in batches. Answers how many it read. */
export async function warmTables(
  cache: Pick<Cache, "popular" | "getOrLoadMany">,
  tables: readonly Table[],
  count: number = WARM_COUNT,
): Promise<number> {
  const popular = await cache.popular(POPULAR_MAX);
  let warmed = 0;
  for (const table of tables) {
    await table.check();
    const keys = new Map(
      popular.flatMap((name) => {
        const key = table.keyOfName(name);
        return key === undefined ? [] : [[name, key] as const];
      }).slice(0, count - warmed),
    );
    const names = [...keys.keys()];
    for (let start = 0; start < names.length; start += WARM_BATCH) {
      const batch = names.slice(start, start + WARM_BATCH);
      await cache.getOrLoadMany(batch, table.batchLoader(keys), table.rowOptions);
    }
    warmed += names.length;
  }
  return warmed;
}

const POPULAR_MAX = 1_000;
/** Number of rows that `POST /cache/warm` reads. */
const WARM_COUNT = 100;
const WARM_BATCH = 500;

/** Loads the row that a cache key stands for. `undefined`: there is no such row or table. */
export async function loadRow(tables: readonly Table[], name: string): Promise<Row | undefined> {
  for (const table of tables) {
    const key = table.keyOfName(name);
    if (key !== undefined) return await table.rows.find(key);
  }
  return undefined;
}

function inputsOf(
  resource: Resource,
  key: readonly PlainColumn[],
  filters: readonly PlainColumn[],
): Inputs {
  const keys = new KeyReader(key, resource);
  return { keys, query: new QueryReader(resource, keys, filters) };
}
