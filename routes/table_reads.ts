/**
 * Rows of declared tables, read through the cache.
 *
 * @module
 */
import type { Context, Hono } from "hono";
import type { Cache, Clock, EntryOptions, Lookup } from "../cache/mod.ts";
import type { Key, Row } from "../db/table_statements.ts";
import { Answers } from "./_answers.ts";
import { invalid, notFound } from "./_errors.ts";
import { parseQuery, refuseParameters } from "./_input.ts";
import type { Latencies } from "../cache/dashboard/mod.ts";
import type { RequestCounts } from "./_request_counts.ts";
import type { ListQuery } from "./_table_query.ts";
import { decoded, type KeyReader } from "./_table_keys.ts";
import type { Inputs, Table } from "./table.ts";

/** Dependencies of the read routes. */
export interface ReadDependencies {
  /** The cache of the tables. */
  readonly cache: Pick<Cache, "getFromMemory" | "getOrLoad" | "getOrLoadMany">;
  /** For durations, and the rest of an entry's life. */
  readonly clock: Clock;
  /** Notes every answered row, if answers are audited. */
  readonly audit?: { note(key: string): void };
  /** Fresh life of a list in milliseconds, unless its table has its own. */
  readonly listTtlMs: number;
}

/** Counters that the handlers of reads call themselves: middleware would cost every hit. */
interface ReadCounters {
  readonly latencies: Latencies;
  readonly requests: RequestCounts;
}

/** Adds `GET /orders/:id` and `GET /orders` for each table. */
export function addReads(
  app: Hono,
  tables: readonly Table[],
  dependencies: ReadDependencies & ReadCounters,
): void {
  const answers = new Answers(dependencies.clock, dependencies.latencies);
  const parts = { ...dependencies, answers };
  for (const table of tables) {
    addReadOfOne(app, table, parts);
    addReadOfMany(app, table, parts);
  }
}

type Parts = ReadDependencies & ReadCounters & { readonly answers: Answers };

function addReadOfOne(app: Hono, table: Table, { cache, requests, audit, answers }: Parts): void {
  const { resource, rows, keyPrefix, rowOptions } = table;
  const path = `/${resource.name}/:id`;
  const counts = requests.reads(path);
  const answer = (
    context: Context,
    { keys }: Inputs,
    startedAtMs: number,
  ): Response | Promise<Response> => {
    const text = keyIn(context, keys);
    const name = keys.nameOf(text);
    if (name === undefined) return counts.noted(invalid(keys.issuesOf(text)));
    const key = keyPrefix + name;
    const answerWith = (lookup: Lookup): Response => {
      if (audit !== undefined && lookup.source !== "load") audit.note(key);
      if (lookup.text === null) {
        const headers = { "cache-status": answers.status(lookup) };
        return counts.noted(notFound(resource.title, headers));
      }
      return counts.noted(answers.one(context, lookup, { startedAtMs }));
    };
    // A promise would cost a hit of memory a tenth of its time.
    const held = cache.getFromMemory(key);
    if (held !== undefined) return answerWith(held);
    const load = () => rows.find(keys.read(text) ?? []);
    return cache.getOrLoad<Row>(key, load, rowOptions).then(answerWith);
  };
  app.get(path, (context): Response | Promise<Response> => {
    const startedAtMs = answers.now();
    const unexpected = refuseParameters(context);
    if (unexpected !== undefined) return counts.noted(unexpected);
    const { inputs } = table;
    if (inputs !== undefined) return answer(context, inputs, startedAtMs);
    return table.known().then((known) => answer(context, known, startedAtMs));
  });
}

function addReadOfMany(app: Hono, table: Table, parts: Parts): void {
  const { cache, requests, answers, listTtlMs } = parts;
  const { resource, rows, keyPrefix, rowOptions } = table;
  const path = `/${resource.name}`;
  const counts = requests.reads(path);
  const ttlMs = resource.listTtlMs ?? listTtlMs;
  app.get(path, async (context) => {
    const startedAtMs = answers.now();
    const { keys, query: reader } = table.inputs ?? await table.known();
    const query = parseQuery(context, reader);
    if (query instanceof Response) return counts.noted(query);
    if (query.ids !== undefined) {
      const wanted = new Map(query.ids.map((text): [string, Key] => [
        keyPrefix + keys.nameOf(text),
        keys.read(text) ?? [],
      ]));
      const load = table.batchLoader(wanted);
      const lookups = await cache.getOrLoadMany<Row>([...wanted.keys()], load, rowOptions);
      return counts.noted(answers.many(context, lookups, { startedAtMs }));
    }
    const { range, members, bounds } = rangeOf(query, keys);
    const { key, tags } = table.listEntry(query.where, range);
    const options: EntryOptions<Row[]> = { ttlMs, tags };
    const load = () => rows.list({ where: query.where, ...bounds });
    const lookup = await cache.getOrLoad<Row[]>(key, load, options);
    return counts.noted(answers.one(context, lookup, { startedAtMs, members }));
  });
}

/** The rows of a list: their name, their description in the answer, and their range in the database. */
interface Range {
  readonly range: string;
  readonly members: string;
  readonly bounds: { readonly limit: number; readonly offset?: number; readonly after?: Key };
}

function rangeOf({ page, limit, after }: ListQuery, keys: KeyReader): Range {
  if (after === undefined) {
    return {
      range: `page=${page}&limit=${limit}`,
      members: `"page":${page},`,
      bounds: { limit, offset: (page - 1) * limit },
    };
  }
  const isNumber = !keys.isComposite && keys.columns[0]?.plain === "integer";
  return {
    range: `after=${keys.before.nameOf(after)}&limit=${limit}`,
    members: `"after":${isNumber ? after : JSON.stringify(after)},`,
    bounds: { limit, after: keys.before.read(after) ?? [] },
  };
}

/**
 * The text of the key in a path. A composite key stays encoded, since its values may contain commas. No key has
 * the text of a path that cannot be decoded; Hono would take it as it is.
 */
export function keyIn({ req: { path } }: Context, keys: KeyReader): string {
  const text = path.slice(path.lastIndexOf("/") + 1);
  return keys.isComposite ? text : decoded(text) ?? "\0";
}
