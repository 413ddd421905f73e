/**
 * Metrics for Prometheus: each reads, when it is scraped, the counters that are there anyway.
 *
 * @module
 */
import { Counter, Gauge, Registry } from "prom-client";
import type { CacheStats, LatencyStats } from "../cache/mod.ts";
import type { ChangesStats } from "../cache/mod.ts";
import type { PoolStats } from "../db/database.ts";
import type { EventLoopLagStats } from "./_event_loop_lag.ts";
import type { RequestCount } from "./_request_counts.ts";

/** The counters that metrics read. */
export interface Sources {
  /** The cache. */
  readonly cache: () => CacheStats;
  /** The change feed; `undefined` while Postgres cannot be asked. */
  readonly changes: () => Promise<ChangesStats | undefined>;
  /** The audit of answers, where there is one. */
  readonly audit?: () => { readonly audited: number; readonly stale: number };
  /** Requests answered. */
  readonly requests: () => readonly RequestCount[];
  /** The connections to Postgres. */
  readonly pool: () => PoolStats;
  /** Errors reported, by status. */
  readonly errors: () => ReadonlyMap<number, number>;
  /** Memory of the process, in bytes. */
  readonly memory: () => { readonly rss: number; readonly heapUsed: number };
  /** Delays of timers in the last minute. */
  readonly eventLoopLag: () => EventLoopLagStats;
}

/** A value with the labels that tell it from others of its metric. */
type Sample = readonly [value: number, labels: Readonly<Record<string, string>>];

/** A registry of all metrics. What cannot be known at a scrape has no value in it. */
export function collectorsOf(sources: Sources): Registry {
  const registry = new Registry();
  const stats = shared(sources.cache);
  collectLookups(registry, stats);
  collectLoads(registry, stats);
  collectStore(registry, stats);
  collectChanges(registry, shared(sources.changes));
  const { audit } = sources;
  if (audit !== undefined) {
    counter(registry, "audits_total", "Answers compared with Postgres", () => audit().audited);
    counter(registry, "audit_stale_total", "Audited answers that were wrong", () => audit().stale);
  }
  collectProcess(registry, sources);
  return registry;
}

function collectLookups(to: Registry, stats: () => CacheStats): void {
  const byTier = (what: "hits" | "misses") =>
    labelled("tier", () => ({ memory: stats().memory[what], redis: stats().redis[what] }));
  counter(to, "hits_total", "Look-ups answered fresh, by tier", byTier("hits"), ["tier"]);
  counter(
    to,
    "misses_total",
    "Look-ups that a tier could not answer fresh",
    byTier("misses"),
    ["tier"],
  );
  const ofCache = countsOf(to, stats);
  ofCache("stale_hits_total", "Answers past their fresh life, within grace", "staleHits");
  ofCache("negative_hits_total", 'Answers "known not to exist"', "negativeHits");
  ofCache("coalesced_total", "Callers that shared another's look-up or load", "coalesced");
  gauge(to, "memory_entries", "Entries in memory", () => stats().memory.entries);
  gauge(
    to,
    "memory_bytes",
    "Bytes that entries in memory are accounted for",
    () => stats().memory.bytes,
  );
  counter(
    to,
    "memory_evictions_total",
    "Entries dropped from memory for room",
    () => stats().memory.evictions,
  );
}

function collectLoads(to: Registry, stats: () => CacheStats): void {
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

function collectStore(to: Registry, stats: () => CacheStats): void {
  const ofCache = countsOf(to, stats);
  latency(to, "redis", "Look-ups in Redis", () => stats().redisLatency);
  ofCache("redis_errors_total", "Redis commands that failed or timed out", "redisErrors");
  ofCache("unreadable_total", "Stored entries that could not be read", "unreadable");
  ofCache("invalidations_total", "Keys invalidated by this process", "invalidations");
  gauge(
    to,
    "pending_invalidations",
    "Invalidations that Redis has not taken yet",
    () => stats().pendingInvalidations,
  );
  gauge(to, "coherent", "1 if memory may be trusted now", () => stats().coherent ? 1 : 0);
  ofCache("feed_drops_total", "Times memory was dropped as the feed was lost", "feedDrops");
  gauge(
    to,
    "fallback",
    "1 while memory stands in for a Redis that is away",
    () => stats().fallback ? 1 : 0,
  );
  gauge(to, "redis_up", "1 if Redis can be reached", () => stats().reachable ? 1 : 0);
  const states = () => ({ closed: 0, open: 0, "half-open": 0, [stats().breaker]: 1 });
  gauge(
    to,
    "breaker_state",
    "1 for the state of the breaker in front of Redis",
    labelled("state", states),
    ["state"],
  );
}

function collectChanges(to: Registry, feed: () => Promise<ChangesStats | undefined>): void {
  const of = (what: keyof ChangesStats, unit = 1) => async () => {
    const value = (await feed())?.[what];
    return value === undefined ? undefined : value / unit;
  };
  gauge(
    to,
    "database_up",
    "1 if Postgres told what the relay has to do",
    async () => await feed() === undefined ? 0 : 1,
  );
  counter(to, "relay_applied_total", "Outbox rows applied by this process", of("applied"));
  counter(
    to,
    "relay_replayed_total",
    "Outbox rows that it applied again in replays",
    of("replayed"),
  );
  gauge(to, "relay_backlog", "Open outbox rows, at most 10,000", of("backlog"));
  gauge(to, "relay_lag_seconds", "Age of the oldest open outbox row", of("lagMs", 1_000));
  gauge(to, "outbox_bytes", "Size of the outbox", of("bytes"));
  gauge(
    to,
    "held_seconds",
    "How long the oldest transaction that has written has been open",
    of("heldMs", 1_000),
  );
}

function collectProcess(to: Registry, sources: Sources): void {
  const { requests, errors, pool, memory, eventLoopLag } = sources;
  counter(
    to,
    "requests_total",
    "Requests answered",
    () =>
      requests().map(({ method, route, status, count }): Sample => [
        count,
        { method, route, status: `${status}` },
      ]),
    ["method", "route", "status"],
  );
  gauge(
    to,
    "pool_connections_max",
    "The most connections to Postgres at once",
    () => pool().connectionsMax,
  );
  gauge(
    to,
    "pool_connections_in_use",
    "Connections to Postgres that run a statement",
    () => pool().inUse,
  );
  gauge(
    to,
    "pool_waiting",
    "Statements that wait for a connection to Postgres",
    () => pool().waiting,
  );
  counter(
    to,
    "errors_total",
    "Errors reported, by the status that was answered",
    () => [...errors()].map(([status, value]): Sample => [value, { status: `${status}` }]),
    ["status"],
  );
  quantiles(
    to,
    "event_loop_lag_seconds",
    "How late timers fired in the last minute; begins with the first scrape",
    eventLoopLag,
  );
  gauge(to, "process_resident_memory_bytes", "Memory of the process", () => memory().rss);
  gauge(to, "process_heap_used_bytes", "Heap of V8 in use", () => memory().heapUsed);
}

/** Quantiles since start: the histograms are never emptied. */
function latency(to: Registry, name: string, what: string, read: () => LatencyStats): void {
  quantiles(to, `${name}_duration_seconds`, `${what}: how long they took since start`, read);
  counter(to, `${name}_durations_total`, `${what} that were timed`, () => read().count);
}

function quantiles(
  to: Registry,
  name: string,
  help: string,
  read: () => Omit<LatencyStats, "count">,
): void {
  const seconds = () => {
    const { p50Ms, p99Ms, maxMs } = read();
    return { "0.5": p50Ms / 1000, "0.99": p99Ms / 1000, "1": maxMs / 1000 };
  };
  gauge(to, name, help, labelled("quantile", seconds), ["quantile"]);
}

type CountName = keyof {
  [Name in keyof CacheStats as CacheStats[Name] extends number ? Name : never]: unknown;
};

function countsOf(to: Registry, stats: () => CacheStats) {
  return (name: string, help: string, count: CountName) =>
    counter(to, name, help, () => stats()[count]);
}

function labelled(label: string, read: () => Readonly<Record<string, number>>): () => Sample[] {
  return () => Object.entries(read()).map(([name, value]) => [value, { [label]: name }]);
}

type Reading = number | undefined | readonly Sample[];
type Read = () => Reading | Promise<Reading>;

function counter(to: Registry, name: string, help: string, read: Read, labelNames: string[] = []) {
  const collect = (): Promise<void> | void => filled(metric, read());
  const metric: Counter = new Counter({
    ...{ name: `lookaside_${name}`, help, labelNames, registers: [to], collect },
  });
}

function gauge(to: Registry, name: string, help: string, read: Read, labelNames: string[] = []) {
  const collect = (): Promise<void> | void => filled(metric, read());
  const metric: Gauge = new Gauge({
    ...{ name: `lookaside_${name}`, help, labelNames, registers: [to], collect },
  });
}

function filled(
  metric: Counter | Gauge,
  reading: Reading | Promise<Reading>,
): Promise<void> | void {
  if (reading instanceof Promise) return reading.then((read) => filled(metric, read));
  metric.reset();
  if (reading === undefined) return metric.remove();
  const samples: readonly Sample[] = typeof reading === "number" ? [[reading, {}]] : reading;
  for (const [value, labels] of samples) metric.inc({ ...labels }, value);
}

/** All metrics of a scrape are collected in one synchronous step: they share what is read in it. */
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
