/**
 * The cache itself: its statistics, and warming. Clearing is described here, but served by the dashboard.
 *
 * @module
 */
import type { Hono, MiddlewareHandler } from "hono";
import { z } from "zod";
import type { Cache, CacheStats, LatencyStats, MemoryTierStats, TierStats } from "../cache/mod.ts";
import type { ChangesStats, StoreInfo } from "../cache/mod.ts";
import type { MeasuredCache } from "../cache/prometheus/mod.ts";
import type { AuditStats } from "../changes/mod.ts";
import {
  answer,
  Count,
  guarded,
  Milliseconds,
  type Paths,
  UNAVAILABLE,
  UNSTORED,
} from "./_description.ts";

/** Dependencies of the cache routes. */
export interface CacheDependencies {
  /** The cache to report. */
  readonly cache: Pick<Cache, "storeInfo"> & MeasuredCache;
  /** Results of the audit of answers, if enabled. */
  readonly audit?: { stats(): AuditStats };
  /** Reads the most requested users ahead of demand. Answers how many. */
  readonly warm: () => Promise<number>;
}

/** Adds the routes of the cache, all behind `guard`. */
export function addCacheRoutes(
  app: Hono,
  { cache, audit, warm }: CacheDependencies,
  guard: MiddlewareHandler,
): void {
  app.get("/cache/stats", guard, async (context) => {
    const { info, keyspace, totalKeys } = await cache.storeInfo() ??
      { info: null, keyspace: null, totalKeys: null };
    context.header("cache-control", "no-store");
    const feed = await cache.changes.stats().catch(() => null); // unknown without Postgres
    const found = audit?.stats() ?? null;
    const stats = { ...cache.stats(), changes: feed, audit: found };
    return context.json({ info, keyspace, totalKeys, ...stats });
  });

  app.post("/cache/warm", guard, async (context) => {
    const warmed = await warm();
    return context.json({ message: "Cache warmed", warmed });
  });
}

const Ratio = z.number().min(0).max(1);
const tier = { hits: Count, misses: Count, hitRate: Ratio };
const Tier: z.ZodType<TierStats> = z.object(tier);
const MemoryTier: z.ZodType<MemoryTierStats> = z.object({
  ...tier,
  entries: Count,
  bytes: Count,
  evictions: Count,
});
const Latency: z.ZodType<LatencyStats> = z.object({
  count: Count,
  p50Ms: Milliseconds,
  p99Ms: Milliseconds,
  maxMs: Milliseconds,
});
const ChangesFigures: z.ZodType<ChangesStats> = z.object({
  applied: Count,
  replayed: Count,
  backlog: Count,
  lagMs: Milliseconds,
  heldMs: Milliseconds,
  bytes: Count,
});

/** The answer of `GET /cache/stats`. */
const CacheStatsAnswer: z.ZodType<
  & CacheStats
  & { readonly [Figure in keyof StoreInfo]: StoreInfo[Figure] | null }
  & { readonly changes: ChangesStats | null; readonly audit: AuditStats | null }
> = z.object({
  info: z.string().nullable().meta({ description: "`INFO stats` of Redis, null without it" }),
  keyspace: z.string().nullable().meta({ description: "`INFO keyspace` of Redis" }),
  totalKeys: Count.nullable().meta({ description: "`DBSIZE` of Redis" }),
  memory: MemoryTier,
  redis: Tier,
  loads: Count,
  loadErrors: Count,
  coalesced: Count,
  refusedFills: Count,
  refreshes: Count,
  staleHits: Count,
  negativeHits: Count,
  rejectedLoads: Count,
  abandonedLoads: Count,
  handlerErrors: Count,
  unreadable: Count,
  invalidations: Count,
  pendingInvalidations: Count,
  redisErrors: Count,
  coherent: z.boolean().meta({ description: "Whether the memory tier is trusted now" }),
  feedDrops: Count,
  reachable: z.boolean().meta({ description: "Whether Redis can be reached now" }),
  fallback: z.boolean().meta({ description: "Whether memory stands in while Redis is down" }),
  breaker: z.enum(["closed", "open", "half-open"]),
  redisLatency: Latency,
  loadLatency: Latency,
  changes: ChangesFigures.nullable().meta({
    description: "The change feed, null while Postgres is down",
  }),
  audit: z.object({ audited: Count, stale: Count }).nullable().meta({
    description: "Results of the audit, null if it is off",
  }),
}).meta({ id: "CacheStatsAnswer" });

/** Describes the routes of the cache. */
export function describeCache(): Paths {
  const CacheCleared = z.object({
    message: z.enum(["Cache cleared", "Cache clear pending"]),
  }).meta({ id: "CacheCleared" });
  const CacheWarmed = z.object({
    message: z.literal("Cache warmed"),
    warmed: Count.meta({ description: "How many users were loaded" }),
  }).meta({ id: "CacheWarmed" });
  return {
    "/cache": {
      delete: guarded("clearCache", {
        summary: "Empties the cache",
        description: "This service's entries, and nothing else in Redis.",
        tags: ["Cache"],
        responses: { 200: answer("It is empty, or will be", CacheCleared, {}), 503: UNAVAILABLE },
      }),
    },
    "/cache/stats": {
      get: guarded("cacheStats", {
        summary: "Returns statistics of the cache",
        tags: ["Cache"],
        responses: { 200: answer("Counts since start", CacheStatsAnswer, UNSTORED) },
      }),
    },
    "/cache/warm": {
      post: guarded("warmCache", {
        summary: "Loads the most requested users in advance",
        tags: ["Cache"],
        responses: { 200: answer("They are cached", CacheWarmed, {}), 503: UNAVAILABLE },
      }),
    },
  };
}
