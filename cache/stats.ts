import { createHistogram, type RecordableHistogram } from "node:perf_hooks";

/** Look-ups of one tier since the start. */
export interface TierStats {
  /** Look-ups answered fresh by this tier, negative entries included. */
  readonly hits: number;
  /** Look-ups that this tier was asked and could not answer fresh. */
  readonly misses: number;
  /** `hits / (hits + misses)`, 0 before the first look-up. */
  readonly hitRate: number;
}

/** The memory tier: its look-ups, and the entries that it holds. */
export interface MemoryTierStats extends TierStats {
  /** Entries held now. */
  readonly entries: number;
  /** Bytes they are accounted for. */
  readonly bytes: number;
  /** Entries dropped for lack of room. */
  readonly evictions: number;
}

/** A latency distribution in milliseconds. Zeroes before the first observation. */
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

/** A snapshot of every counter of a cache. */
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
  /** Loads that had not settled long after their time-out, and lost their place. */
  readonly abandonedLoads: number;
  /** Handlers of the cache's owner (`onEvent`, `onLookup`) that threw. */
  readonly handlerErrors: number;
  /** Stored entries that could not be read: foreign bytes, a newer format, a wrong type. */
  readonly unreadable: number;
  /** Keys invalidated by this process. */
  readonly invalidations: number;
  /** Invalidations that Redis has not taken yet. */
  readonly pendingInvalidations: number;
  /** Redis commands that failed or timed out. */
  readonly redisErrors: number;
  /** True while the memory tier may be trusted. */
  readonly coherent: boolean;
  /** Times the memory tier was dropped because the invalidation feed was lost. */
  readonly feedDrops: number;
  /** False while a server of Redis cannot be reached. */
  readonly reachable: boolean;
  /** True while memory stands in for a server of Redis that is away. */
  readonly fallback: boolean;
  /** The circuit breaker in front of Redis, which is open while that cannot be reached. */
  readonly breaker: "closed" | "open" | "half-open";
  /** Durations of look-ups in Redis. */
  readonly redisLatency: LatencyStats;
  /** Durations of loads. */
  readonly loadLatency: LatencyStats;
}

/** The counters of a tier behind memory. */
export class TierCounters {
  hits = 0;
  misses = 0;
  readonly latency: RecordableHistogram = createHistogram();
}

/** The counters while they count: plain numbers, so that a hit costs an addition. */
export class Counters {
  memoryHits = 0;
  memoryMisses = 0;
  loads = 0;
  loadErrors = 0;
  joinedLoads = 0;
  refusedFills = 0;
  refreshes = 0;
  staleHits = 0;
  negativeHits = 0;
  rejectedLoads = 0;
  handlerErrors = 0;
  unreadable = 0;
  invalidations = 0;
  redisErrors = 0;
  feedDrops = 0;
  readonly redis: TierCounters = new TierCounters();
  readonly loadLatency: RecordableHistogram = createHistogram();
}

/** Records a duration in a histogram of microseconds, which holds whole numbers from 1. */
export function record(histogram: RecordableHistogram, durationMs: number): void {
  histogram.record(Math.max(1, Math.round(durationMs * 1000)));
}

/** The figures of one engine, beside the counters, which all engines of a cache share. */
export interface EngineFigures {
  readonly memory: { readonly size: number; readonly bytes: number; readonly evictions: number };
  readonly joined: number;
  readonly pendingInvalidations: number;
  readonly coherent: boolean;
  readonly reachable: boolean;
  readonly fallback: boolean;
  readonly breaker: CacheStats["breaker"];
}

/** From the worst: the state of several breakers is that of the worst. */
const BREAKER_STATES = ["open", "half-open"] as const;

/** Sums up the counters and the figures of every engine. */
export function statsOf(
  counters: Counters,
  abandonedLoads: number,
  engines: readonly EngineFigures[],
): CacheStats {
  const { memoryHits, memoryMisses, joinedLoads, redis, loadLatency, ...counts } = counters;
  const sum = (of: (engine: EngineFigures) => number) =>
    engines.reduce((total, engine) => total + of(engine), 0);
  return {
    ...counts,
    abandonedLoads,
    memory: {
      ...tierStats(memoryHits, memoryMisses),
      entries: sum(({ memory }) => memory.size),
      bytes: sum(({ memory }) => memory.bytes),
      evictions: sum(({ memory }) => memory.evictions),
    },
    redis: tierStats(redis.hits, redis.misses),
    coalesced: joinedLoads + sum(({ joined }) => joined),
    pendingInvalidations: sum((engine) => engine.pendingInvalidations),
    coherent: engines.every(({ coherent }) => coherent),
    reachable: engines.every(({ reachable }) => reachable),
    fallback: engines.some(({ fallback }) => fallback),
    breaker: BREAKER_STATES.find((state) => engines.some(({ breaker }) => breaker === state)) ??
      "closed",
    redisLatency: latencyStats(redis.latency),
    loadLatency: latencyStats(loadLatency),
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
