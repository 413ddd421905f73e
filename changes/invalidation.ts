/**
 * Where database and cache meet: what a committed change of each watched table invalidates.
 *
 * To cache another table, attach it with `SELECT lookaside_watch('orders')` in a migration, and add
 * its line here.
 *
 * @module
 */
import type { Cache } from "../cache/mod.ts";
import type { Change } from "./relay.ts";
import { usersInvalidation } from "../routes/users.ts";

/** Keys that one command line of invalidations holds at the most. */
const KEYS_BATCH_MAX = 1_000;

/** What is invalidated. */
export interface Invalidated {
  /** Keys of single entries. */
  readonly keys: readonly string[];
  /** Tags of everything that the change may have touched. */
  readonly tags: readonly string[];
}

/** By table: what a change of it invalidates. */
const BY_TABLE: ReadonlyMap<string, (change: Change) => Invalidated> = new Map([
  ["users", usersInvalidation],
]);

/** A change could not be applied yet: it has to stay open in the outbox. */
export class InvalidationPendingError extends Error {
  /** Names the class in logs. */
  override readonly name = "InvalidationPendingError";
}

/**
 * Applies changes to the cache, and answers what they invalidated. Tables that nobody caches here are
 * passed over.
 *
 * @throws {InvalidationPendingError} Redis has not taken all of it.
 */
export async function applyChanges(
  cache: Pick<Cache, "delete" | "invalidateTags">,
  changes: readonly Change[],
): Promise<Invalidated> {
  const keys: string[] = [];
  const tags = new Set<string>();
  for (const change of changes) {
    const invalidated = BY_TABLE.get(change.table)?.(change);
    for (const key of invalidated?.keys ?? []) keys.push(key);
    for (const tag of invalidated?.tags ?? []) tags.add(tag);
  }
  for (let start = 0; start < keys.length; start += KEYS_BATCH_MAX) {
    assertApplied(await cache.delete(...keys.slice(start, start + KEYS_BATCH_MAX)));
  }
  // Behind the keys: a page that is loaded in between carries the old version of its tag.
  if (tags.size > 0) assertApplied(await cache.invalidateTags(...tags));
  return { keys, tags: [...tags] };
}

/**
 * Invalidates everything.
 *
 * @throws {InvalidationPendingError} Redis has not taken it.
 */
export async function resetCache(cache: Pick<Cache, "clear">): Promise<void> {
  assertApplied(await cache.clear());
}

function assertApplied(outcome: "applied" | "pending"): void {
  if (outcome === "applied") return;
  throw new InvalidationPendingError("Cannot apply changes: Redis has not taken the invalidation");
}
