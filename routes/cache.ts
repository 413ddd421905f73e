/**
 * The cache itself: what it did, and a way to empty it.
 *
 * @module
 */
import type { Hono, MiddlewareHandler } from "hono";
import type { Cache } from "../cache/mod.ts";
import type { ChangeFeedStats } from "../changes/relay.ts";
import type { InvalidationLog } from "./invalidation_log.ts";

/** What the routes of the cache need. */
export interface CacheDependencies {
  /** The cache to tell of. */
  readonly cache: Pick<Cache, "stats" | "storeInfo" | "clear">;
  /** What the change feed did and has to do. May reject while Postgres is down. */
  readonly changes: { stats(): Promise<ChangeFeedStats> };
  /** What the audit of answers found, where there is one. */
  readonly audit?: { stats(): { readonly audited: number; readonly stale: number } };
  /** Reads the most requested users ahead of demand. Answers how many. */
  readonly warm: () => Promise<number>;
  /** Told of what is cleared. */
  readonly invalidations: InvalidationLog;
}

/** Adds the routes of the cache. `guard` stands before all of them. */
export function addCacheRoutes(
  app: Hono,
  { cache, changes, audit, warm, invalidations }: CacheDependencies,
  guard: MiddlewareHandler,
): void {
  app.get("/cache/stats", guard, async (context) => {
    const { info, keyspace, totalKeys } = await cache.storeInfo() ??
      { info: null, keyspace: null, totalKeys: null };
    context.header("cache-control", "no-store");
    const feed = await changes.stats().catch(() => null); // without Postgres nobody can tell
    const found = audit?.stats() ?? null;
    const stats = { ...cache.stats(), changes: feed, audit: found };
    return context.json({ info, keyspace, totalKeys, ...stats });
  });

  app.post("/cache/warm", guard, async (context) => {
    const warmed = await warm();
    return context.json({ message: "Cache warmed", warmed });
  });

  app.delete("/cache", guard, async (context) => {
    const pending = await cache.clear() === "pending";
    invalidations.note("admin", { everything: true }, { pending });
    return context.json({ message: pending ? "Cache clear pending" : "Cache cleared" });
  });
}
