/**
 * The `Cache-Status` header (RFC 9211): what the cache did for an answer.
 *
 * @module
 */
import type { Lookup, Source } from "../lookup.ts";

const DETAILS: Readonly<Record<Source, string>> = {
  memory: "memory",
  redis: "redis",
  load: "database",
};

/**
 * Whole seconds for which `lookup` stays fresh at `nowMs` (wall time); negative: it is stale.
 */
export function secondsLeft(lookup: Lookup, nowMs: number): number {
  const seconds = Math.floor((lookup.freshUntilMs - nowMs) / 1000);
  // Staleness is the cache's to say: the sign follows it, not this reading of the clock.
  return lookup.stale ? Math.min(seconds, -1) : Math.max(seconds, 0);
}

/**
 * The value of `Cache-Status` for an answer made of `lookup`.
 *
 * - `Lookaside; hit; ttl=123; detail=memory`: a hit, its tier and the seconds it stays fresh. Negative
 *   seconds mean that it is stale.
 * - `Lookaside; fwd=uri-miss; stored; detail=database`: loaded, and stored unless `stored` is missing.
 */
export function cacheStatus(lookup: Lookup, ttlSeconds: number): string {
  const detail = DETAILS[lookup.source];
  if (lookup.source !== "load") return `Lookaside; hit; ttl=${ttlSeconds}; detail=${detail}`;
  const stored = lookup.freshUntilMs > 0 ? "; stored" : "";
  return `Lookaside; fwd=uri-miss${stored}; detail=${detail}`;
}

/**
 * The lookup that speaks for an answer made of several: the worst of them, so that "hit" means that
 * every part was one and `ttl` holds for every part. `undefined` if there is none.
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
