import { systemRuntime } from "@lookaside/cache";
import type { CacheConfig, WithCacheConfig } from "drizzle-orm/cache/core/types";
import { entityKind } from "drizzle-orm/entity";
import { type SQL, sql } from "drizzle-orm/sql";
import { QueryCache, type Run, type UsedCache } from "./query_cache.ts";
import { locksRows } from "./tables_read.ts";

/** Options of {@linkcode withCache}. */
export interface QueryCacheOptions {
  /** True if every query is cached unless it says `$withCache(false)`. Default: only those with `$withCache()`. */
  readonly global?: boolean;
  /** Fresh life of rows. Default: that of the cache; a query's own `config` (`ex`, `px`, …) takes precedence. */
  readonly ttlMs?: number;
}

/** The types of the options. */
const OPTIONS: Readonly<Record<keyof QueryCacheOptions, string>> = {
  global: "boolean",
  ttlMs: "number",
};

/** The part of a Drizzle database for Postgres that is used here. */
export interface DrizzleDatabase {
  /** Drizzle's internals. */
  readonly _: { readonly session: object };
}

/** The part of Drizzle's session that every statement passes through. */
interface Session {
  cache: QueryCache;
  prepareQuery(query: Statement, ...others: unknown[]): Prepared;
  execute(query: SQL): Promise<unknown>;
  transaction(run: unknown, config?: { readonly accessMode?: string }): Promise<unknown>;
}

interface Statement {
  readonly sql: string;
  readonly params: readonly unknown[];
}

type Prepared = Partial<Record<"execute" | "all", (values?: unknown) => Promise<unknown>>>;

/** Drizzle's description of a statement that it has built. */
interface Metadata {
  readonly type: "select" | "insert" | "update" | "delete";
}

/**
 * Answers the queries of a Drizzle database from a cache whose option `changes` reports that database.
 *
 * Rows are never older than a write that was acknowledged before the query began: a write or transaction
 * resolves once its changes are invalidated, and Postgres reports other writers. Queries of tables that are not
 * watched are not cached, nor are those in a transaction or with `.for("update")`.
 *
 * @throws {TypeError} It is not a Drizzle database whose session has `prepareQuery()`, or an option is unknown or
 * has another type.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 * import { withCache } from "@lookaside/drizzle";
 * import { drizzle } from "drizzle-orm/pg-proxy";
 * import { integer, pgTable } from "drizzle-orm/pg-core";
 *
 * // With `changes: postgresChanges(pool)`. Without, nobody could tell, and nothing is cached.
 * await using cache = new Cache();
 * const answer = () => Promise.resolve({ rows: [[42]] }); // stands for Postgres
 * const db = withCache(drizzle(answer), cache, { ttlMs: 60_000 });
 * const orders = pgTable("orders", { id: integer().primaryKey() });
 * assert.deepEqual(await db.select().from(orders).$withCache(), [{ id: 42 }]);
 * ```
 */
export function withCache<Database extends DrizzleDatabase>(
  db: Database,
  cache: UsedCache,
  options: QueryCacheOptions = {},
): Database {
  assertOptions(options);
  const session = db._.session as Session;
  if (typeof session?.prepareQuery !== "function") {
    throw new TypeError("Cannot cache its queries: it is no database of Drizzle for Postgres");
  }
  const isPublic = once((name) => readsPublic(session, name));
  const queries = new QueryCache(cache, { global: options.global ?? false, isPublic });
  session.cache = queries;
  const prepareQuery = session.prepareQuery.bind(session);
  session.prepareQuery = (query, ...others) => {
    const prepared = prepareQuery(query, ...others);
    const { metadata, config } = told(others);
    for (const name of ["execute", "all"] as const) {
      const run = prepared[name]?.bind(prepared);
      if (run === undefined) continue; // Drizzle 1 has no `all()`
      prepared[name] = async (values) => {
        const start = () => run(values);
        if (queries.run === null) return await start(); // in a transaction
        if (isWrite(query, metadata)) return await written(cache, queries.apart(start));
        if (locksRows(query.sql)) return await start();
        return await reading(queries, { query, values, session, config, options }, start);
      };
    }
    return prepared;
  };
  const transaction = session.transaction.bind(session);
  session.transaction = async (run, config) => {
    const done = queries.apart(() => transaction(run, config));
    return config?.accessMode === "read only" ? await done : await written(cache, done);
  };
  const invalidate = queries.onMutate.bind(queries);
  return Object.assign(db, { $cache: { invalidate } });
}

/** @throws {TypeError} An option is unknown or has another type. */
function assertOptions(options: QueryCacheOptions): void {
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(OPTIONS, name)) {
      const names = Object.keys(OPTIONS).join(", ");
      throw new TypeError(
        `Cannot use the option ${name}: there is none of this name, but ${names}`,
      );
    }
    const type = OPTIONS[name as keyof QueryCacheOptions];
    if (value === undefined || typeof value === type) continue;
    throw new TypeError(`Cannot use ${name}: it must be of type ${type}, not ${typeof value}`);
  }
}

/** Drizzle's description of a statement, whose position among the arguments differs between 0.44 and 1. */
function told(
  args: readonly unknown[],
): { readonly metadata?: Metadata; readonly config?: WithCacheConfig } {
  const at = args.findIndex((each) => Array.isArray(Reflect.get(Object(each), "tables")));
  if (at < 0) return {};
  return { metadata: args[at] as Metadata, config: args[at + 1] as WithCacheConfig };
}

/** Asks what a name means: a table in `public`, or another by the search path. `undefined`: none. */
async function readsPublic(session: Session, name: string): Promise<boolean | undefined> {
  const quoted = `"${name.replaceAll('"', '""')}"`;
  const result = await session.execute(
    sql`SELECT to_regclass(${quoted}) = to_regclass(${`public.${quoted}`}) AS same`,
  );
  const [row] = Array.isArray(result) ? result : Reflect.get(Object(result), "rows") ?? [];
  const same: unknown = row?.same;
  return typeof same === "boolean" ? same : undefined;
}

/** Asks once for each name, and again if there was no answer. */
function once(
  ask: (name: string) => Promise<boolean | undefined>,
): (name: string) => Promise<boolean> {
  const answers = new Map<string, boolean>();
  return async (name) => {
    const answer = answers.get(name) ?? await ask(name);
    if (answer !== undefined) answers.set(name, answer);
    return answer ?? false;
  };
}

/** Runs a query in its own context. */
async function reading(
  queries: QueryCache,
  { query, values, session, config, options }: {
    readonly query: Statement;
    readonly values: unknown;
    readonly session: Session;
    readonly config: WithCacheConfig | undefined;
    readonly options: QueryCacheOptions;
  },
  start: () => Promise<unknown>,
): Promise<unknown> {
  const run: Run = {
    sql: query.sql,
    parameters: [query.params, values],
    driver: Reflect.get(session.constructor, entityKind),
    ttlMs: ttlOf(config?.config) ?? options.ttlMs,
  };
  try {
    return await queries.within(run, start);
  } finally {
    await run.slot?.release(); // the query has failed
  }
}

/** Resolves once the written rows are invalidated too. */
async function written<T>(cache: UsedCache, writing: Promise<T>): Promise<T> {
  const result = await writing;
  try {
    await cache.changes.caughtUp();
  } catch (_error) {
    await cache.clear(); // written, but Postgres cannot report what
  }
  return result;
}

/** For a statement that Drizzle has not built, the first word decides; WITH and EXPLAIN may run a write. */
function isWrite({ sql }: Statement, metadata: Metadata | undefined): boolean {
  if (metadata !== undefined && metadata.type !== "select") return true;
  if (/^\s*with\b/i.test(sql)) return /\b(insert|update|delete|merge)\b/i.test(sql);
  return metadata === undefined && !/^\s*(select|values|table|show)\b/i.test(sql);
}

/** The fresh life that a query sets. */
function ttlOf({ ex, px, exat, pxat }: CacheConfig = {}): number | undefined {
  if (px !== undefined) return px;
  if (ex !== undefined) return ex * 1_000;
  const untilMs = pxat ?? (exat === undefined ? undefined : exat * 1_000);
  return untilMs === undefined ? undefined : Math.max(0, untilMs - systemRuntime.clock.now());
}
