/**
 * The `Cache-Status` header (RFC 9211): how the cache handled the request.
 *
 * @module
 */
import type { Lookup, Source } from "../lookup.ts";

const DETAILS: Readonly<Record<Source, string>> = {
  memory: "memory",
  redis: "redis",
  load: "database",
};

/** Whole seconds for which `lookup` stays fresh at `nowMs` (wall time); negative if it is stale. */
export function secondsLeft(lookup: Lookup, nowMs: number): number {
  const seconds = Math.floor((lookup.freshUntilMs - nowMs) / 1000);
  // The cache decides whether it is stale: the sign follows that, not this reading of the clock.
  return lookup.stale ? Math.min(seconds, -1) : Math.max(seconds, 0);
}

/**
 * The value of `Cache-Status` for a response made from `lookup`.
 *
 * - `Lookaside; hit; ttl=123; detail=memory`: a hit, its tier, and the seconds for which it stays fresh,
 *   negative if stale.
 * - `Lookaside; fwd=uri-miss; stored; detail=database`: loaded; without `stored` it was not stored.
 */
export function cacheStatus(lookup: Lookup, ttlSeconds: number): string {
  const detail = DETAILS[lookup.source];
  if (lookup.source !== "load") return `Lookaside; hit; ttl=${ttlSeconds}; detail=${detail}`;
  const stored = lookup.freshUntilMs > 0 ? "; stored" : "";
  return `Lookaside; fwd=uri-miss${stored}; detail=${detail}`;
}

/**
 * The lookup that represents a response made from several: the worst of them, so that "hit" and `ttl` hold for
 * every part. `undefined` if there are none.
 */
export function worstOf(lookups: readonly Lookup[]): Lookup | undefined {
  let worst = lookups[0];
  for (const lookup of lookups) {
    if (worst === undefined || isWorse(lookup, worst)) worst = lookup;
  }
  return worst;
}

function isWorse(a: Lookup, b: Lookup): boolean {
  const aLoaded = a.source === "load";
  if (aLoaded !== (b.source === "load")) return aLoaded;
  return a.freshUntilMs < b.freshUntilMs;
}
