import { systemRuntime } from "@lookaside/cache";
import type { CacheConfig, WithCacheConfig } from "drizzle-orm/cache/core/types";
import { entityKind } from "drizzle-orm/entity";
import { type SQL, sql } from "drizzle-orm/sql";
import { QueryCache, type Run, type UsedCache } from "./query_cache.ts";

/** Options of {@linkcode withCache}. */
export interface QueryCacheOptions {
  /** Whether every query is cached that does not say `$withCache(false)`. Default: those with `$withCache()`. */
  readonly global?: boolean;
  /** Fresh life of rows. Default: that of the cache; a query's own `config` (`ex`, `px`, …) counts more. */
  readonly ttlMs?: number;
}

/** A database of Drizzle for Postgres, as far as it is used here. */
export interface DrizzleDatabase {
  /** Drizzle's own. */
  readonly _: { readonly session: object };
}

/** The part of Drizzle's session that every statement passes. */
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

/** What Drizzle says of a statement that it has built. */
interface Metadata {
  readonly type: "select" | "insert" | "update" | "delete";
}

/**
 * Answers the queries of a Drizzle database from a cache, whose option `changes` has to tell of the database.
 *
 * Rows are never older than a write that was acknowledged before the query began: a write, and a
 * transaction, resolves when what it changed has been invalidated; of other writers Postgres tells. What
 * reads a table that nobody tells of is not cached, nor is what is read in a transaction.
 *
 * @throws {TypeError} It is no database of Drizzle that has sessions with `prepareQuery()`.
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
        if (queries.runs.getStore() === null) return await start(); // in a transaction
        if (isWrite(query, metadata)) return await written(cache, queries.runs.run(null, start));
        return await reading(queries, { query, values, session, config, options }, start);
      };
    }
    return prepared;
  };
  const transaction = session.transaction.bind(session);
  session.transaction = async (run, config) => {
    const done = queries.runs.run(null, () => transaction(run, config));
    return config?.accessMode === "read only" ? await done : await written(cache, done);
  };
  const invalidate = queries.onMutate.bind(queries);
  return Object.assign(db, { $cache: { invalidate } });
}

/** Drizzle's word on a statement, whose place among the arguments differs between 0.44 and 1. */
function told(
  args: readonly unknown[],
): { readonly metadata?: Metadata; readonly config?: WithCacheConfig } {
  const at = args.findIndex((each) => Array.isArray(Reflect.get(Object(each), "tables")));
  if (at < 0) return {};
  return { metadata: args[at] as Metadata, config: args[at + 1] as WithCacheConfig };
}

/** Asks where a name leads: to the table in `public`, or by the search path to another. `undefined`: nowhere. */
async function readsPublic(session: Session, name: string): Promise<boolean | undefined> {
  const quoted = `"${name.replaceAll('"', '""')}"`;
  const result = await session.execute(
    sql`SELECT to_regclass(${quoted}) = to_regclass(${`public.${quoted}`}) AS same`,
  );
  const [row] = Array.isArray(result) ? result : Reflect.get(Object(result), "rows") ?? [];
  const same: unknown = row?.same;
  return typeof same === "boolean" ? same : undefined;
}

/** Asks once of each name, and again where that had no answer. */
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

/** Runs a query in a context of its own. */
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
    return await queries.runs.run(run, start);
  } finally {
    await run.slot?.release(); // the query has failed
  }
}

/** Resolves when what was written has been invalidated as well. */
async function written<T>(cache: UsedCache, writing: Promise<T>): Promise<T> {
  const result = await writing;
  try {
    await cache.changes.caughtUp();
  } catch (_error) {
    await cache.clear(); // it is written, and Postgres cannot say what
  }
  return result;
}

/** Of a statement that Drizzle has not built, its first word decides; in WITH may be anything. */
function isWrite({ sql }: Statement, metadata: Metadata | undefined): boolean {
  if (metadata !== undefined && metadata.type !== "select") return true;
  if (/^\s*with\b/i.test(sql)) return /\b(insert|update|delete|merge)\b/i.test(sql);
  return metadata === undefined && !/^\s*(select|values|table|show|explain)\b/i.test(sql);
}

/** The fresh life that a query asks for. */
function ttlOf({ ex, px, exat, pxat }: CacheConfig = {}): number | undefined {
  if (px !== undefined) return px;
  if (ex !== undefined) return ex * 1_000;
  const untilMs = pxat ?? (exat === undefined ? undefined : exat * 1_000);
  return untilMs === undefined ? undefined : Math.max(0, untilMs - systemRuntime.clock.now());
}
