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

/** A cache of `@lookaside/cache`, as far as it is used here. */
export type UsedCache = Pick<
  Cache,
  "begin" | "delete" | "invalidateTags" | "clear" | "changes"
>;

/** One run of a SELECT, from Drizzle's question to the cache until it hands over the rows. */
export interface Run {
  /** The statement. */
  readonly sql: string;
  /** Its parameters, and the values of its placeholders. */
  readonly parameters: unknown;
  /** Tells the rows of one driver from those of another. */
  readonly driver: string;
  /** Fresh life of its rows; `undefined`: that of the cache. */
  readonly ttlMs: number | undefined;
  /** The right to store its rows. */
  slot?: Slot<unknown> | undefined;
}

/** The part of a {@linkcode QueryCache} that is the database's. */
interface Options {
  /** Whether all queries are cached, or those alone that ask for it. */
  readonly global: boolean;
  /** Tells whether a name without a schema is that of a table in `public`. */
  readonly isPublic: (name: string) => Promise<boolean>;
}

/** Values that rows have beside those of JSON, in their own forms. */
const TO_TEXT = { Buffer: (value: unknown) => Buffer.isBuffer(value) && value.toString("base64") };
const FROM_TEXT = { Buffer: (text: string) => Buffer.from(text, "base64") };

/**
 * Drizzle's `Cache`, whose two halves `get` and `put` are the two phases of one fill here: a run that has found
 * nothing holds the lease of its key, so that rows which were read before a change are refused.
 *
 * Drizzle hands nothing from `get` to `put` but the key, under which others may be reading; so each run goes
 * in an asynchronous context of its own. Outside of one, which is in a transaction, nothing is answered and
 * nothing kept.
 */
export class QueryCache extends DrizzleCache {
  /** The run that is under way in this asynchronous context; `null`: a write or a transaction. */
  readonly runs: AsyncLocalStorage<Run | null> = new AsyncLocalStorage();
  readonly #cache: UsedCache;
  readonly #options: Options;

  /** Caches nothing but what goes in a context of {@linkcode runs}. */
  constructor(cache: UsedCache, options: Options) {
    super();
    this.#cache = cache;
    this.#options = options;
  }

  /** Tells Drizzle which queries it asks for. */
  override strategy(): "all" | "explicit" {
    return this.#options.global ? "all" : "explicit";
  }

  /** Answers the rows of a query; `undefined`: ask the database. */
  override async get(
    key: string,
    _tables: string[],
    isTag: boolean,
    isAutoInvalidate?: boolean,
    // deno-lint-ignore no-explicit-any -- Drizzle's own type
  ): Promise<any[] | undefined> {
    const run = this.runs.getStore();
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
      // A table that nobody tells of, which the source of changes reports, or rows that cannot be read.
    }
    return undefined;
  }

  /** Keeps the rows of a query, unless what they depend on has changed since it was asked. */
  override async put(_key: string, rows: unknown): Promise<void> {
    const run = this.runs.getStore();
    const slot = run?.slot;
    if (!run || slot === undefined) return;
    run.slot = undefined;
    try {
      // Of a result of `pg` or PGlite Drizzle takes the rows alone.
      const kept = Array.isArray(rows) ? [...rows] : { rows: Reflect.get(Object(rows), "rows") };
      await slot.fill(new JsonText(stringify(kept, TO_TEXT)));
    } catch (_error) {
      await slot.release(); // a class of the user's own, which would not come back
    }
  }

  /** Invalidates what a caller of `$cache.invalidate()` names. What is written, Postgres tells. */
  override async onMutate({ tables = [], tags = [] }: MutationOption): Promise<void> {
    if (this.runs.getStore() === null) return;
    const names = [tables].flat().map((table) =>
      is(table, Table) ? getTableUniqueName(table) : table as string
    );
    const ofTables = await Promise.all(names.map((name) => tableTags(this.#cache, name)));
    await this.#cache.invalidateTags(...ofTables.flat(), ...[tags].flat().map(tagOf));
  }

  /** The tags of all tables that a statement reads. `undefined`: it does not tell. */
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

/** The key of a query. Under one tag there may be several, which Drizzle does not tell apart. */
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
