/**
 * Says which cache entries a committed change invalidates.
 *
 * @module
 */
import type { CacheServer, InvalidatedNames } from "@lookaside/cache";
import { anyTag, rowName, tableTag, valueTag } from "./names.ts";

/** Limit of keys or tags that are sent at once. */
const BATCH_MAX = 1_000;

/** A committed change of a watched table. */
export interface Change {
  /** The table: `orders`, or `sales.orders` outside the schema `public`. */
  readonly table: string;
  /** Keys of the rows that changed, before and after; `undefined`: too many to list, or all. */
  readonly keys: readonly string[] | undefined;
  /** `column=value` of the watched columns of these rows, before and after. */
  readonly values: readonly string[];
}

/** Names that a change invalidates, by table, for entries that `table()` has not named. */
export type Invalidates = Readonly<Record<string, (change: Change) => InvalidatedNames>>;

/** A change could not be applied yet: it must stay open in the outbox. */
export class InvalidationPendingError extends Error {
  /** Names the class in logs. */
  override readonly name = "InvalidationPendingError";
}

/** The names that `table()` gives to entries that depend on a change. */
export function invalidatedBy({ table, keys, values }: Change): InvalidatedNames {
  if (keys === undefined) return { keys: [], tags: [tableTag(table)] };
  const rows = keys.map((key) => rowName(table, key));
  return {
    keys: rows,
    tags: [...rows, ...values.map((each) => valueTag(table, each)), anyTag(table)],
  };
}

/** The names of the entries that depend on a change: those given for its table, or those of `table()`. */
export function namesOf(change: Change, invalidates: Invalidates = {}): InvalidatedNames {
  const own = Object.hasOwn(invalidates, change.table) ? invalidates[change.table] : undefined;
  return (own ?? invalidatedBy)(change);
}

/** All names that changes invalidate, each once. */
export function invalidatedNames(
  changes: readonly Change[],
  invalidates: Invalidates = {},
): InvalidatedNames {
  return union(changes.map((change) => namesOf(change, invalidates)));
}

function union(all: readonly InvalidatedNames[]): InvalidatedNames {
  const keys = new Set<string>();
  const tags = new Set<string>();
  for (const names of all) {
    for (const key of names.keys) keys.add(key);
    for (const tag of names.tags) tags.add(tag);
  }
  return { keys: [...keys], tags: [...tags] };
}

/**
 * Applies changes, and invalidates further names, on a server of a cache. Answers all invalidated names.
 *
 * @throws {InvalidationPendingError} Redis has not applied all of it.
 */
export async function applyChanges(
  server: Pick<CacheServer, "delete" | "invalidateTags">,
  changes: readonly Change[],
  { invalidates, names: more = [] }: {
    readonly invalidates?: Invalidates | undefined;
    readonly names?: readonly InvalidatedNames[];
  } = {},
): Promise<InvalidatedNames> {
  const names = union([invalidatedNames(changes, invalidates), ...more]);
  for (const batch of batches(names.keys)) assertApplied(await server.delete(...batch));
  // After the keys: a list that is loaded in between carries the old version of its tag.
  for (const batch of batches(names.tags)) assertApplied(await server.invalidateTags(...batch));
  return names;
}

/**
 * Invalidates everything.
 *
 * @throws {InvalidationPendingError} Redis has not applied it.
 */
export async function resetServer(server: Pick<CacheServer, "clear">): Promise<void> {
  assertApplied(await server.clear());
}

function* batches(names: readonly string[]): Generator<readonly string[]> {
  for (let start = 0; start < names.length; start += BATCH_MAX) {
    yield names.slice(start, start + BATCH_MAX);
  }
}

function assertApplied(outcome: "applied" | "pending"): void {
  if (outcome === "applied") return;
  throw new InvalidationPendingError("Redis does not take the invalidation. It is tried again");
}
