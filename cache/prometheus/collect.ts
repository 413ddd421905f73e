/**
 * The figures of a cache for Prometheus.
 *
 * @module
 */
import type { Registry } from "prom-client";
import type { Cache } from "../cache.ts";
import { type Changes, type ChangesStats, NO_CHANGES } from "../changes.ts";
import { assertOptions } from "../options.ts";
import type { CacheStats, LatencyStats } from "../stats.ts";
import { labelled, Metrics } from "./metrics.ts";

/** The methods of a cache that metrics use. */
export interface MeasuredCache extends Pick<Cache, "stats"> {
  /** The changes that are reported to it. */
  readonly changes: Pick<Changes, "stats">;
}

/** Options of {@linkcode collect}. */
export interface CollectOptions {
  /** Prefix of every name. Two caches in one registry need different ones. Default: `lookaside_`. */
  readonly prefix?: string;
}

/**
 * Adds the figures of a cache to a registry. They are read at each scrape; nothing is counted for them. A figure
 * that is unavailable at a scrape, such as those of Postgres while it is down, has no value in it.
 *
 * @throws {TypeError} An option is unknown or has another type.
 * @throws {Error} The registry already has metrics with these names.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 * import { collect } from "@lookaside/cache/prometheus";
 * import { Registry } from "prom-client";
 *
 * await using cache = new Cache();
 * const registry = new Registry();
 * collect(registry, cache);
 *
 * await cache.getOrLoad("user:1", () => Promise.resolve({ name: "Ada" }));
 * assert.match(await registry.metrics(), /^lookaside_loads_total 1$/m);
 * ```
 */
export function collect(
  registry: Registry,
  cache: MeasuredCache,
  options: CollectOptions = {},
): void {
  assertOptions(options, { prefix: "string" });
  const { prefix = "lookaside_" } = options;
  const to = new Metrics(registry, prefix);
  const stats = shared(() => cache.stats());
  collectLookups(to, stats);
  collectLoads(to, stats);
  collectStore(to, stats);
  if (cache.changes === NO_CHANGES) return; // there is no source of changes
  collectChanges(to, shared(() => cache.changes.stats().catch(() => undefined)));
}

function collectLookups(to: Metrics, stats: () => CacheStats): void {
  const byTier = (what: "hits" | "misses") =>
    labelled("tier", () => ({ memory: stats().memory[what], redis: stats().redis[what] }));
  to.counter("hits_total", "Look-ups answered fresh, by tier", byTier("hits"), ["tier"]);
  to.counter("misses_total", "Look-ups that a tier could not answer fresh", byTier("misses"), [
    "tier",
  ]);
  const ofCache = countsOf(to, stats);
  ofCache("stale_hits_total", "Answers past their fresh life, within grace", "staleHits");
  ofCache("negative_hits_total", 'Answers "known not to exist"', "negativeHits");
  ofCache("coalesced_total", "Callers that shared another's look-up or load", "coalesced");
  to.gauge("memory_entries", "Entries in memory", () => stats().memory.entries);
  to.gauge(
    "memory_bytes",
    "Bytes that entries in memory are accounted for",
    () => stats().memory.bytes,
  );
  to.counter(
    "memory_evictions_total",
    "Entries dropped from memory for room",
    () => stats().memory.evictions,
  );
}

function collectLoads(to: Metrics, stats: () => CacheStats): void {
  const ofCache = countsOf(to, stats);
  ofCache("loads_total", "Loads started", "loads");
  ofCache("load_errors_total", "Loads that failed", "loadErrors");
  ofCache("rejected_loads_total", "Loads refused: too many ran and waited", "rejectedLoads");
  ofCache(
    "abandoned_loads_total",
    "Loads that never settled and lost their place",
    "abandonedLoads",
  );
  ofCache("refreshes_total", "Loads ahead of expiry or behind a stale answer", "refreshes");
  ofCache(
    "refused_fills_total",
    "Loaded values not stored because a write came in between",
    "refusedFills",
  );
  latency(to, "load", "Loads", () => stats().loadLatency);
}

function collectStore(to: Metrics, stats: () => CacheStats): void {
  const ofCache = countsOf(to, stats);
  latency(to, "redis", "Look-ups in Redis", () => stats().redisLatency);
  ofCache("redis_errors_total", "Redis commands that failed or timed out", "redisErrors");
  ofCache("unreadable_total", "Stored entries that could not be read", "unreadable");
  ofCache("invalidations_total", "Keys invalidated by this process", "invalidations");
  to.gauge(
    "pending_invalidations",
    "Invalidations that Redis has not taken yet",
    () => stats().pendingInvalidations,
  );
  to.gauge("coherent", "1 if memory may be trusted now", () => stats().coherent ? 1 : 0);
  ofCache("feed_drops_total", "Times memory was dropped as the feed was lost", "feedDrops");
  to.gauge(
    "fallback",
    "1 while memory stands in for a Redis that is away",
    () => stats().fallback ? 1 : 0,
  );
  to.gauge("redis_up", "1 if Redis can be reached", () => stats().reachable ? 1 : 0);
  const states = () => ({ closed: 0, open: 0, "half-open": 0, [stats().breaker]: 1 });
  to.gauge(
    "breaker_state",
    "1 for the state of the breaker in front of Redis",
    labelled("state", states),
    ["state"],
  );
}

function collectChanges(to: Metrics, feed: () => Promise<ChangesStats | undefined>): void {
  const of = (what: keyof ChangesStats, unit = 1) => async () => {
    const value = (await feed())?.[what];
    return value === undefined ? undefined : value / unit;
  };
  to.gauge(
    "database_up",
    "1 if Postgres told what the relay has to do",
    async () => await feed() === undefined ? 0 : 1,
  );
  to.counter("relay_applied_total", "Outbox rows applied by this process", of("applied"));
  to.counter(
    "relay_replayed_total",
    "Outbox rows that it applied again in replays",
    of("replayed"),
  );
  to.gauge("relay_backlog", "Open outbox rows, at most 10,000", of("backlog"));
  to.gauge("relay_lag_seconds", "Age of the oldest open outbox row", of("lagMs", 1_000));
  to.gauge("outbox_bytes", "Size of the outbox", of("bytes"));
  to.gauge(
    "held_seconds",
    "How long the oldest transaction that has written has been open",
    of("heldMs", 1_000),
  );
}

/** Quantiles since the start: the histograms are never emptied. */
function latency(to: Metrics, name: string, subject: string, read: () => LatencyStats): void {
  to.quantiles(`${name}_duration_seconds`, `${subject}: how long they took since start`, read);
  to.counter(`${name}_durations_total`, `${subject} that were timed`, () => read().count);
}

type CountName = keyof {
  [Name in keyof CacheStats as CacheStats[Name] extends number ? Name : never]: unknown;
};

function countsOf(to: Metrics, stats: () => CacheStats) {
  return (name: string, help: string, count: CountName) =>
    to.counter(name, help, () => stats()[count]);
}

/** Reads once per scrape: all metrics of a scrape are collected in one synchronous step. */
function shared<T>(read: () => T): () => T {
  let reading: { readonly value: T } | undefined;
  return () => {
    if (reading === undefined) {
      reading = { value: read() };
      queueMicrotask(() => reading = undefined);
    }
    return reading.value;
  };
}
