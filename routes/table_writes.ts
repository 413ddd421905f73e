/**
 * Writes of rows of declared tables. Each invalidates the cache entries of the row.
 *
 * @module
 */
import type { Context, Handler, Hono, MiddlewareHandler } from "hono";
import type { z } from "zod";
import { matchesEtag, weakEtag } from "../cache/hono/mod.ts";
import type { Cache, Changes, InvalidatedNames, Invalidation } from "../cache/mod.ts";
import type { WriteOptions } from "../db/table_rows.ts";
import { type Key, keyText, type Row, type Written } from "../db/table_statements.ts";
import { RefusedWriteError } from "../db/refused_write.ts";
import {
  changedMeanwhile,
  errorContext,
  type ErrorListener,
  excluded,
  invalid,
  notFound,
  refusedWrite,
} from "./_errors.ts";
import { parseBody } from "./_input.ts";
import type { InvalidationLog } from "../cache/dashboard/mod.ts";
import type { Table } from "./table.ts";
import { keyIn } from "./table_reads.ts";

/** Dependencies of the write routes. */
export interface WriteDependencies {
  /** The cache of the rows. */
  readonly cache: Pick<Cache, "delete" | "invalidateTags"> & {
    /** The source that also reports writes to the cache. */
    readonly changes: Pick<Changes, "beginWrite">;
  };
  /** Notes invalidations. */
  readonly invalidations: InvalidationLog;
  /** Called if the invalidation fails after a successful write. */
  readonly onError: ErrorListener;
}

/** Attempts of a conditional write, because others may write the row in between. */
const ROUNDS_MAX = 3;

/** Says `applied` or `pending` after every write, because the answer to a DELETE has no body. */
const INVALIDATION_HEADER = "lookaside-invalidation";

/** Adds the write routes of each writable table, all behind `guard`. */
export function addWrites(
  app: Hono,
  tables: readonly Table[],
  dependencies: WriteDependencies,
  guard: MiddlewareHandler,
): void {
  for (const table of tables) {
    if (table.resource.write !== undefined) addWritesOf(app, table, dependencies, guard);
  }
}

function addWritesOf(
  app: Hono,
  table: Table,
  dependencies: WriteDependencies,
  guard: MiddlewareHandler,
): void {
  const { resource: { name, write, changes }, rows } = table;
  const one = `/${name}/:id`;
  const changed = async (context: Context, key: Key, write: WriteToRow) => {
    const { keys } = await table.known();
    const change = (writer: string) =>
      applied(context, table, key, async (mark) => {
        const written = await write({ mark, writer });
        // The write may have given the row another key, of which "does not exist" may be cached.
        return written && { keys: [key, keys.of(written.row)], ...written };
      });
    return await committed(context, table, dependencies, change);
  };
  const overwrite = (schema: typeof changes, by: Overwrite): Handler => async (context) => {
    const key = await keyOf(context, table);
    if (key instanceof Response) return key;
    if (schema === undefined) return notFound(table.resource.title);
    const fields = await fieldsOf(context, table, schema);
    if (fields instanceof Response) return fields;
    const written = await changed(context, key, (options) => by(key, fields, options));
    if (written instanceof Response) return written;
    return answered(context, table, { ...written, done: "updated" });
  };

  app.post(`/${name}`, guard, async (context) => {
    const { keys } = await table.known();
    if (write === undefined) return notFound(table.resource.title);
    const fields = await fieldsOf(context, table, write);
    if (fields instanceof Response) return fields;
    const create = (writer: string) =>
      refusalsOf(async () => {
        const written = await rows.create(fields, { writer });
        // The key was free until now, and "does not exist" may be cached, so invalidate that too.
        return { keys: [keys.of(written.row)], ...written };
      });
    const written = await committed(context, table, dependencies, create);
    if (written instanceof Response) return written;
    const text = keyText(keys.of(written.row));
    context.header("location", `/${name}/${keys.isComposite ? text : encodeURIComponent(text)}`);
    return answered(context, table, { ...written, done: "created" });
  });

  app.put(one, guard, overwrite(write, (...args) => rows.replace(...args)));

  app.patch(one, guard, overwrite(changes, (...args) => rows.update(...args)));

  app.delete(one, guard, async (context) => {
    const key = await keyOf(context, table);
    if (key instanceof Response) return key;
    const written = await changed(context, key, (options) => rows.remove(key, options));
    if (written instanceof Response) return written;
    context.header(INVALIDATION_HEADER, written.invalidation);
    return context.body(null, 204);
  });
}

/** Writes to an existing row. */
type WriteToRow = (options: WriteOptions) => Promise<Written | undefined>;

/** The same, with new fields. */
type Overwrite = (key: Key, fields: Row, options: WriteOptions) => Promise<Written | undefined>;

/** A written row and its keys, before and after. */
interface KeyedWrite extends Written {
  readonly keys: readonly Key[];
}

/** The fields of a body, unless they would give the row a key that no request can write. */
async function fieldsOf(
  context: Context,
  table: Table,
  schema: z.ZodType<Row>,
): Promise<Row | Response> {
  const fields = await parseBody(context, schema);
  if (fields instanceof Response) return fields;
  const issues = (await table.known()).keys.issuesIn(fields);
  return issues.length > 0 ? invalid(issues) : fields;
}

async function keyOf(context: Context, table: Table): Promise<Key | Response> {
  const { keys } = await table.known();
  const text = keyIn(context, keys);
  return keys.read(text) ?? invalid(keys.issuesOf(text));
}

/**
 * Writes with a mark of this process, and invalidates. If everything is invalidated, the relay has nothing left
 * to do, and entries that are loaded from now on stay.
 */
async function committed(
  context: Context,
  table: Table,
  dependencies: WriteDependencies,
  write: (writer: string) => Promise<KeyedWrite | Response>,
): Promise<KeyedWrite & { readonly invalidation: Invalidation } | Response> {
  using own = await dependencies.cache.changes.beginWrite();
  const written = await write(own.mark);
  if (written instanceof Response) return written;
  const names = table.invalidatedBy(written.keys, written.touched);
  const invalidation = await invalidate(context, names, dependencies);
  if (invalidation === "applied") own.invalidated(names);
  return { ...written, invalidation };
}

/**
 * Writes a row, under the conditions of `If-Match` (only this content) and `If-None-Match` (only other content).
 * The client's tag is compared with one made from the row in the database, and the statement itself checks that
 * the row still has that content:
 *
 * ```text
 * 1. editors A and B hold the same tag
 * 2. A and B: each reads the row, which has that tag
 * 3. A: UPDATE … WHERE the content is the one that was read
 * 4. B: UPDATE … WHERE the content is the same: waits for A, checks again, and finds no row
 * ```
 */
async function applied(
  { req }: Context,
  { resource: { title }, rows }: Table,
  key: Key,
  write: (mark?: string) => Promise<KeyedWrite | undefined>,
): Promise<KeyedWrite | Response> {
  const ifMatch = req.header("if-match") ?? "*";
  const ifNoneMatch = req.header("if-none-match");
  if (ifNoneMatch === undefined && ifMatch.trim() === "*") {
    const written = await refusalsOf(write);
    if (written !== undefined) return written;
    return await rows.find(key) === undefined ? notFound(title) : dropped();
  }
  let before: string | undefined;
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const found = await rows.findMarked(key);
    if (found === undefined) return notFound(title);
    const etag = weakEtag([JSON.stringify(found.row)]);
    if (!matchesEtag(ifMatch, etag)) break;
    if (ifNoneMatch !== undefined && matchesEtag(ifNoneMatch, etag)) return excluded(title);
    if (found.mark === before) return dropped();
    before = found.mark;
    const written = await refusalsOf(() => write(found.mark));
    if (written !== undefined) return written;
  }
  return changedMeanwhile(title);
}

/** 422: the row is as it was. A trigger can drop a write without a word, and a policy hide a row from writes. */
function dropped(): Response {
  return refusedWrite(new RefusedWriteError("constraint", [], undefined));
}

async function refusalsOf<T>(write: () => Promise<T>): Promise<T | Response> {
  try {
    return await write();
  } catch (error) {
    if (error instanceof RefusedWriteError) return refusedWrite(error);
    throw error;
  }
}

/**
 * Invalidates a row and every list that may contain it. Call it after the write is committed, and answer once it
 * resolves.
 *
 * A failed write invalidates nothing, although a write whose connection broke may have been committed: otherwise
 * writes sent while Postgres is down would empty the cache that is answering for it. If it was committed, the
 * relay invalidates it.
 */
async function invalidate(
  context: Context,
  { keys, tags }: InvalidatedNames,
  { cache, invalidations, onError }: WriteDependencies,
): Promise<Invalidation> {
  const outcomes = await Promise.allSettled([cache.delete(...keys), cache.invalidateTags(...tags)]);
  let invalidation: Invalidation = "applied";
  for (const outcome of outcomes) {
    if (outcome.status === "fulfilled" && outcome.value === "applied") continue;
    invalidation = "pending";
    // The write was successful, so the answer must not report a failure.
    if (outcome.status === "rejected") onError(outcome.reason, errorContext(context, 200));
  }
  invalidations.note("write", { keys, tags }, { pending: invalidation === "pending" });
  return invalidation;
}

function answered(
  context: Context,
  { resource: { title } }: Table,
  { row, done, invalidation }: {
    readonly row: Row;
    readonly done: "created" | "updated";
    readonly invalidation: Invalidation;
  },
): Response {
  context.header(INVALIDATION_HEADER, invalidation);
  const message = invalidation === "applied"
    ? `${title} ${done} and cache invalidated`
    : `${title} ${done}; cache invalidation pending`;
  return context.json({ message, data: row }, done === "created" ? 201 : 200);
}
