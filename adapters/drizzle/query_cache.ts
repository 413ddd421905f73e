import { type Cache, JsonText, type Slot } from "@lookaside/cache";
import { tableTags } from "@lookaside/changes";
import { stringify, unflatten } from "devalue";
import { AsyncLocalStorage } from "node:async_hooks";
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { Cache as DrizzleCache, type MutationOption } from "drizzle-orm/cache/core";
import { is } from "drizzle-orm/entity";
import { getTableUniqueName, Table } from "drizzle-orm/table";
import { tablesRead } from "./tables_read.ts";

/** The methods of a cache of `@lookaside/cache` that are used here. */
export type UsedCache = Pick<
  Cache,
  "begin" | "delete" | "invalidateTags" | "clear" | "changes"
>;

/** One run of a SELECT, from Drizzle's look-up in the cache until it stores the rows. */
export interface Run {
  /** The statement. */
  readonly sql: string;
  /** Its parameters, with the values of its placeholders. */
  readonly parameters: unknown;
  /** Separates the rows of different drivers. */
  readonly driver: string;
  /** Fresh life of its rows; `undefined`: that of the cache. */
  readonly ttlMs: number | undefined;
  /** The right to store its rows. */
  slot?: Slot<unknown> | undefined;
}

/** A write or a transaction. What runs within it is neither answered nor stored. */
interface Apart {
  /** True once it has ended: what it has left running is not part of it. */
  isOver: boolean;
}

/** The options that belong to a database. */
interface Options {
  /** True if all queries are cached; false: only those that ask for it. */
  readonly global: boolean;
  /** True if a name without a schema means a table in `public`. */
  readonly isPublic: (name: string) => Promise<boolean>;
}

/** Row values of types that JSON does not have, in their own forms. */
const TO_TEXT = { Buffer: (value: unknown) => Buffer.isBuffer(value) && value.toString("base64") };
const FROM_TEXT = { Buffer: (text: string) => Buffer.from(text, "base64") };

/**
 * Implements Drizzle's `Cache`. Its `get` and `put` are the two phases of one fill: a run that finds nothing
 * holds the lease of its key, so rows that were read before a change are refused.
 *
 * Drizzle passes nothing from `get` to `put` but the key, which other runs may use at the same time. So each run
 * has an asynchronous context of its own. Outside of one, as in a transaction, nothing is answered or stored.
 */
export class QueryCache extends DrizzleCache {
  readonly #contexts = new AsyncLocalStorage<Run | Apart>();
  readonly #cache: UsedCache;
  readonly #options: Options;

  /** Caches only within {@linkcode QueryCache.within}. */
  constructor(cache: UsedCache, options: Options) {
    super();
    this.#cache = cache;
    this.#options = options;
  }

  /** The current run of this asynchronous context; `null`: a write or a transaction. */
  get run(): Run | null | undefined {
    const found = this.#contexts.getStore();
    if (found === undefined || !("isOver" in found)) return found;
    return found.isOver ? undefined : null;
  }

  /** Does the work of a run, in a context of its own. */
  within<T>(run: Run, work: () => Promise<T>): Promise<T> {
    return this.#contexts.run(run, work);
  }

  /** Does the work of a write or a transaction. */
  async apart<T>(work: () => Promise<T>): Promise<T> {
    const apart: Apart = { isOver: false };
    try {
      return await this.#contexts.run(apart, work);
    } finally {
      apart.isOver = true;
    }
  }

  /** Tells Drizzle for which queries to call `get`. */
  override strategy(): "all" | "explicit" {
    return this.#options.global ? "all" : "explicit";
  }

  /** Answers the rows of a query; `undefined`: query the database. */
  override async get(
    key: string,
    _tables: string[],
    isTag: boolean,
    isAutoInvalidate?: boolean,
    // deno-lint-ignore no-explicit-any -- Drizzle's own type
  ): Promise<any[] | undefined> {
    const { run } = this;
    if (!run) return undefined;
    const ttlMs = run.ttlMs === undefined ? {} : { ttlMs: run.ttlMs };
    try {
      const tags = isAutoInvalidate === false ? [] : await this.#tagsOf(run.sql);
      if (tags === undefined) return undefined;
      if (isTag) tags.push(tagOf(key));
      const slot = await this.#cache.begin<unknown>(keyOf(key, isTag, run), { ...ttlMs, tags });
      if (slot.hit) return unflatten(slot.value() as number, FROM_TEXT);
      run.slot = slot;
    } catch (_error) {
      // The table is not watched, which the source of changes reports, or the stored rows cannot be read.
    }
    return undefined;
  }

  /** Stores the rows of a query, unless a row that they depend on has changed since `get`. */
  override async put(_key: string, rows: unknown): Promise<void> {
    const { run } = this;
    const slot = run?.slot;
    if (!run || slot === undefined) return;
    run.slot = undefined;
    try {
      // Drizzle uses only the rows of a result of `pg` or PGlite.
      const kept = Array.isArray(rows) ? [...rows] : { rows: Reflect.get(Object(rows), "rows") };
      await slot.fill(new JsonText(stringify(kept, TO_TEXT)));
    } catch (_error) {
      await slot.release(); // a user's class, which could not be restored
    }
  }

  /** Invalidates the tables and tags of `$cache.invalidate()`. Written rows are reported by Postgres. */
  override async onMutate({ tables = [], tags = [] }: MutationOption): Promise<void> {
    if (this.run === null) return;
    const names = [tables].flat().map((table) =>
      is(table, Table) ? getTableUniqueName(table) : table as string
    );
    const ofTables = await Promise.all(names.map((name) => tableTags(this.#cache, name)));
    await this.#cache.invalidateTags(...ofTables.flat(), ...[tags].flat().map(tagOf));
  }

  /** The tags of all tables that a statement reads. `undefined`: its text does not say which. */
  async #tagsOf(sql: string): Promise<string[] | undefined> {
    const tables = tablesRead(sql);
    if (tables === undefined) return undefined;
    const tags = await Promise.all(tables.map(async ([schema, name]) => {
      if (schema === undefined && !await this.#options.isPublic(name)) return undefined;
      return await tableTags(this.#cache, [schema ?? "public", name]);
    }));
    return tags.includes(undefined) ? undefined : tags.flatMap((each) => each ?? []);
  }
}

/** The key of a query. One tag may stand for several queries, which Drizzle does not distinguish. */
function keyOf(key: string, isTag: boolean, { sql, parameters, driver }: Run): string {
  if (!isTag) return `drizzle:${driver}:${key}`;
  const ofBigint = (_: string, value: unknown) =>
    typeof value === "bigint" ? { bigint: `${value}` } : value;
  return `drizzle:${driver}:${hash(JSON.stringify([key, sql, parameters], ofBigint))}`;
}

function tagOf(tag: string): string {
  return /^[\w.:-]{1,100}$/.test(tag) ? `drizzle:${tag}` : `drizzle:#${hash(tag)}`;
}

function hash(text: string): string {
  return createHash("sha256").update(text, "utf8").digest("hex");
}
