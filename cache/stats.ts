import { createHistogram, type RecordableHistogram } from "node:perf_hooks";

/** Look-ups of one tier since the start. */
export interface TierStats {
  /** Look-ups that this tier answered fresh, negative entries included. */
  readonly hits: number;
  /** Look-ups in this tier without a fresh answer. */
  readonly misses: number;
  /** `hits / (hits + misses)`, 0 before the first look-up. */
  readonly hitRate: number;
}

/** The memory tier: its look-ups and its entries. */
export interface MemoryTierStats extends TierStats {
  /** Entries in memory now. */
  readonly entries: number;
  /** Bytes counted for them. */
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
  /** Tier 2, shared. All zeroes in memory-only mode. */
  readonly redis: TierStats;
  /** Loader calls that were started. */
  readonly loads: number;
  /** Loads that rejected. */
  readonly loadErrors: number;
  /** Callers that shared another caller's look-up or load. */
  readonly coalesced: number;
  /** Loaded values that were not stored because a write came in between. */
  readonly refusedFills: number;
  /** Loads started before expiry or after a stale answer. */
  readonly refreshes: number;
  /** Answers past their fresh life, within grace. */
  readonly staleHits: number;
  /** Answers "known not to exist". */
  readonly negativeHits: number;
  /** Loads refused because too many were running and waiting. */
  readonly rejectedLoads: number;
  /** Loads still running long after their time-out, which no longer count against the limit. */
  readonly abandonedLoads: number;
  /** Errors thrown by `onEvent` and `onLookup`. */
  readonly handlerErrors: number;
  /** Stored entries that could not be read: foreign bytes, a newer format, a wrong type. */
  readonly unreadable: number;
  /** Keys invalidated by this process. */
  readonly invalidations: number;
  /** Invalidations that Redis has not applied yet. */
  readonly pendingInvalidations: number;
  /** Redis commands that failed or timed out. */
  readonly redisErrors: number;
  /** True while the memory tier may be trusted. */
  readonly coherent: boolean;
  /** Times the memory tier was dropped because the invalidation feed was lost. */
  readonly feedDrops: number;
  /** False while a Redis server cannot be reached. */
  readonly reachable: boolean;
  /** True while memory stands in for a Redis server that is unreachable or refuses commands. */
  readonly fallback: boolean;
  /** The circuit breaker in front of Redis; also open while Redis cannot be reached. */
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

/** Running counters: plain numbers, so that a hit costs one addition. */
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

/** Records a duration in a histogram of microseconds, which takes whole numbers from 1. */
export function record(histogram: RecordableHistogram, durationMs: number): void {
  histogram.record(Math.max(1, Math.round(durationMs * 1000)));
}

/** The figures of one engine, besides the counters that all engines of a cache share. */
export interface EngineFigures {
  readonly memory: { readonly size: number; readonly bytes: number; readonly evictions: number };
  readonly joined: number;
  readonly pendingInvalidations: number;
  readonly coherent: boolean;
  readonly reachable: boolean;
  readonly fallback: boolean;
  readonly breaker: CacheStats["breaker"];
}

/** Worst first: several breakers are reported as the worst of them. */
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
