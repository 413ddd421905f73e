/**
 * Counters of what the cache did since it was made.
 *
 * @module
 */

import { createHistogram, type RecordableHistogram } from "node:perf_hooks";

/**
 * What one tier did. Counts since start; `hitRate` in 0 to 1.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 *
 * await using cache = new Cache();
 * await cache.getOrLoad("a", () => Promise.resolve(1));
 * await cache.getOrLoad("a", () => Promise.resolve(1));
 * assert(cache.stats().memory.hitRate > 0);
 * ```
 */
export interface TierStats {
  /** Look-ups answered fresh by this tier, negative entries included. */
  readonly hits: number;
  /** Look-ups that this tier was asked and could not answer fresh. */
  readonly misses: number;
  /** `hits / (hits + misses)`, 0 before the first look-up. */
  readonly hitRate: number;
}

/**
 * The memory tier, with what it holds.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 *
 * await using cache = new Cache();
 * await cache.set("a", 1);
 * assert.equal(cache.stats().memory.entries, 1);
 * ```
 */
export interface MemoryTierStats extends TierStats {
  /** Entries held now. */
  readonly entries: number;
  /** Bytes they are accounted for. */
  readonly bytes: number;
  /** Entries dropped for lack of room. */
  readonly evictions: number;
}

/**
 * A latency distribution in milliseconds. Zeroes before the first observation.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 *
 * await using cache = new Cache();
 * await cache.getOrLoad("a", () => Promise.resolve(1));
 * assert.equal(cache.stats().loadLatency.count, 1);
 * ```
 */
export interface LatencyStats {
  /** Observations. */
  readonly count: number;
  /** Median. */
  readonly p50Ms: number;
  /** 99th percentile. */
  readonly p99Ms: number;
  /** Largest. */
  readonly maxMs: number;
}

/**
 * A snapshot of every counter of a cache.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 *
 * await using cache = new Cache();
 * const { loads, coalesced, coherent } = cache.stats();
 * assert.deepEqual({ loads, coalesced, coherent }, { loads: 0, coalesced: 0, coherent: true });
 * ```
 */
export interface CacheStats {
  /** Tier 1, in this process. */
  readonly memory: MemoryTierStats;
  /** Tier 2, shared. All zero in memory-only mode. */
  readonly redis: TierStats;
  /** Calls of a loader that were started. */
  readonly loads: number;
  /** Loads that rejected. */
  readonly loadErrors: number;
  /** Callers that shared another caller's look-up or load. */
  readonly coalesced: number;
  /** Loaded values that were not stored because a write came in between. */
  readonly refusedFills: number;
  /** Loads started ahead of expiry or behind a stale answer. */
  readonly refreshes: number;
  /** Answers past their fresh life, within grace. */
  readonly staleHits: number;
  /** Answers "known not to exist". */
  readonly negativeHits: number;
  /** Loads refused because too many were running and waiting. */
  readonly rejectedLoads: number;
  /** Stored entries that could not be read: foreign bytes, a newer format, a wrong type. */
  readonly unreadable: number;
  /** Keys invalidated by this process. */
  readonly invalidations: number;
  /** Invalidations that Redis has not taken yet. */
  readonly pendingInvalidations: number;
  /** Redis commands that failed or timed out. */
  readonly redisErrors: number;
  /** Whether the memory tier may be trusted now. */
  readonly coherent: boolean;
  /** Times the memory tier was dropped because the invalidation feed was lost. */
  readonly feedDrops: number;
  /** The circuit breaker in front of Redis. */
  readonly breaker: "closed" | "open" | "half-open";
  /** How long look-ups in Redis take. */
  readonly redisLatency: LatencyStats;
  /** How long loads take. */
  readonly loadLatency: LatencyStats;
}

/** The counters while they count: plain numbers, so that a hit costs an addition. */
export class Counters {
  memoryHits = 0;
  memoryMisses = 0;
  redisHits = 0;
  redisMisses = 0;
  loads = 0;
  loadErrors = 0;
  joinedLoads = 0;
  refusedFills = 0;
  refreshes = 0;
  staleHits = 0;
  negativeHits = 0;
  rejectedLoads = 0;
  unreadable = 0;
  invalidations = 0;
  redisErrors = 0;
  feedDrops = 0;
  readonly redisLatency: RecordableHistogram = createHistogram();
  readonly loadLatency: RecordableHistogram = createHistogram();
}

/** Records a duration in a histogram of microseconds, which holds whole numbers from 1. */
export function record(histogram: RecordableHistogram, durationMs: number): void {
  histogram.record(Math.max(1, Math.round(durationMs * 1000)));
}

/** What is told of each place that keys have, beside the counters, which all share. */
export interface PlaceFigures {
  readonly memory:
    | { readonly size: number; readonly bytes: number; readonly evictions: number }
    | undefined;
  readonly reader: { readonly joined: number };
  readonly pendingInvalidations: number;
  readonly coherent: boolean;
  readonly breaker: CacheStats["breaker"];
}

/** From the worst: the state of several breakers is that of the worst. */
const BREAKER_STATES = ["open", "half-open"] as const;

/** Sums up what a cache did. */
export function statsOf(counters: Counters, places: readonly PlaceFigures[]): CacheStats {
  const sum = (of: (place: PlaceFigures) => number) =>
    places.reduce((total, place) => total + of(place), 0);
  return {
    memory: {
      ...tierStats(counters.memoryHits, counters.memoryMisses),
      entries: sum(({ memory }) => memory?.size ?? 0),
      bytes: sum(({ memory }) => memory?.bytes ?? 0),
      evictions: sum(({ memory }) => memory?.evictions ?? 0),
    },
    redis: tierStats(counters.redisHits, counters.redisMisses),
    loads: counters.loads,
    loadErrors: counters.loadErrors,
    coalesced: counters.joinedLoads + sum(({ reader }) => reader.joined),
    refusedFills: counters.refusedFills,
    refreshes: counters.refreshes,
    staleHits: counters.staleHits,
    negativeHits: counters.negativeHits,
    rejectedLoads: counters.rejectedLoads,
    unreadable: counters.unreadable,
    invalidations: counters.invalidations,
    pendingInvalidations: sum((place) => place.pendingInvalidations),
    redisErrors: counters.redisErrors,
    coherent: places.every(({ coherent }) => coherent),
    feedDrops: counters.feedDrops,
    breaker: BREAKER_STATES.find((state) => places.some(({ breaker }) => breaker === state)) ??
      "closed",
    redisLatency: latencyStats(counters.redisLatency),
    loadLatency: latencyStats(counters.loadLatency),
  };
}

/** Summarises a histogram of microseconds. */
function latencyStats(histogram: RecordableHistogram): LatencyStats {
  if (histogram.count === 0) return { count: 0, p50Ms: 0, p99Ms: 0, maxMs: 0 };
  return {
    count: histogram.count,
    p50Ms: histogram.percentile(50) / 1000,
    p99Ms: histogram.percentile(99) / 1000,
    maxMs: histogram.max / 1000,
  };
}

/** Summarises a tier. */
function tierStats(hits: number, misses: number): TierStats {
  return { hits, misses, hitRate: hits + misses === 0 ? 0 : hits / (hits + misses) };
}
