/**
 * What Prometheus is told, made of the counters that are there anyway.
 *
 * @module
 */
import type { CacheStats, LatencyStats } from "../cache/mod.ts";
import type { ChangeFeedStats } from "../changes/relay.ts";
import type { PoolStats } from "../db/database.ts";
import type { EventLoopLagStats } from "./_event_loop_lag.ts";
import type { RequestCount } from "./_request_counts.ts";

/** Everything that the figures are made of. */
export interface Snapshot {
  /** The cache. */
  readonly cache: CacheStats;
  /** The change feed; `undefined` while Postgres cannot be asked. */
  readonly changes: ChangeFeedStats | undefined;
  /** The audit of answers, where there is one. */
  readonly audit: { readonly audited: number; readonly stale: number } | undefined;
  /** Requests answered. */
  readonly requests: readonly RequestCount[];
  /** The connections to Postgres. */
  readonly pool: PoolStats;
  /** Errors reported, by status. */
  readonly errors: ReadonlyMap<number, number>;
  /** Memory of the process, in bytes. */
  readonly memory: { readonly rss: number; readonly heapUsed: number };
  /** How late timers fired in the last minute. */
  readonly eventLoopLag: EventLoopLagStats;
}

/** A value, with its labels. */
export interface Sample {
  /** In base units. */
  readonly value: number;
  /** What tells it from others of its family. */
  readonly labels?: Readonly<Record<string, string>>;
}

/** A metric. Its samples all have the same labels. */
export interface Family {
  /** `lookaside_…`, its unit last. */
  readonly name: string;
  /** What it counts or measures. */
  readonly help: string;
  /** A counter's name ends in `_total`. */
  readonly kind: "counter" | "gauge";
  /** At least one. */
  readonly samples: readonly Sample[];
}

/** The metrics of a snapshot. What cannot be known is left out. */
export function familiesOf(snapshot: Snapshot): Family[] {
  const { cache, changes, audit } = snapshot;
  return [
    ...lookupFamilies(cache),
    ...loadFamilies(cache),
    ...storeFamilies(cache),
    gauge("database_up", "1 if Postgres told what the relay has to do", changes ? 1 : 0),
    ...(changes === undefined ? [] : relayFamilies(changes)),
    ...(audit === undefined ? [] : [
      counter("audits_total", "Answers compared with Postgres", audit.audited),
      counter("audit_stale_total", "Audited answers that were wrong", audit.stale),
    ]),
    ...processFamilies(snapshot),
  ];
}

function lookupFamilies({ memory, redis, ...cache }: CacheStats): Family[] {
  return [
    family("counter", {
      name: "hits_total",
      help: "Look-ups answered fresh, by tier",
      samples: byLabel("tier", { memory: memory.hits, redis: redis.hits }),
    }),
    family("counter", {
      name: "misses_total",
      help: "Look-ups that a tier could not answer fresh",
      samples: byLabel("tier", { memory: memory.misses, redis: redis.misses }),
    }),
    counter("stale_hits_total", "Answers past their fresh life, within grace", cache.staleHits),
    counter("negative_hits_total", 'Answers "known not to exist"', cache.negativeHits),
    counter("coalesced_total", "Callers that shared another's look-up or load", cache.coalesced),
    gauge("memory_entries", "Entries in memory", memory.entries),
    gauge("memory_bytes", "Bytes that entries in memory are accounted for", memory.bytes),
    counter("memory_evictions_total", "Entries dropped from memory for room", memory.evictions),
  ];
}

function loadFamilies(cache: CacheStats): Family[] {
  return [
    counter("loads_total", "Loads started", cache.loads),
    counter("load_errors_total", "Loads that failed", cache.loadErrors),
    counter("rejected_loads_total", "Loads refused: too many ran and waited", cache.rejectedLoads),
    counter("refreshes_total", "Loads ahead of expiry or behind a stale answer", cache.refreshes),
    counter(
      "refused_fills_total",
      "Loaded values not stored because a write came in between",
      cache.refusedFills,
    ),
    ...latencyFamilies("load", "Loads", cache.loadLatency),
  ];
}

function storeFamilies(cache: CacheStats): Family[] {
  const state = { closed: 0, open: 0, "half-open": 0, [cache.breaker]: 1 };
  return [
    ...latencyFamilies("redis", "Look-ups in Redis", cache.redisLatency),
    counter("redis_errors_total", "Redis commands that failed or timed out", cache.redisErrors),
    counter("unreadable_total", "Stored entries that could not be read", cache.unreadable),
    counter("invalidations_total", "Keys invalidated by this process", cache.invalidations),
    gauge(
      "pending_invalidations",
      "Invalidations that Redis has not taken yet",
      cache.pendingInvalidations,
    ),
    gauge("coherent", "1 if memory may be trusted now", cache.coherent ? 1 : 0),
    counter("feed_drops_total", "Times memory was dropped as the feed was lost", cache.feedDrops),
    family("gauge", {
      name: "breaker_state",
      help: "1 for the state of the breaker in front of Redis",
      samples: byLabel("state", state),
    }),
  ];
}

function relayFamilies({ applied, replayed, backlog, lagMs }: ChangeFeedStats): Family[] {
  return [
    counter("relay_applied_total", "Outbox rows applied by this process", applied),
    counter("relay_replayed_total", "Outbox rows that it applied again in replays", replayed),
    gauge("relay_backlog", "Open outbox rows, at most 10,000", backlog),
    gauge("relay_lag_seconds", "Age of the oldest open outbox row", lagMs / 1000),
  ];
}

function processFamilies({ requests, errors, pool, memory, eventLoopLag }: Snapshot): Family[] {
  const { p50Ms, p99Ms, maxMs } = eventLoopLag;
  return [
    family("counter", {
      name: "requests_total",
      help: "Requests answered",
      samples: requests.map(({ method, route, status, count }) => ({
        value: count,
        labels: { method, route, status: `${status}` },
      })),
    }),
    gauge("pool_connections_max", "The most connections to Postgres at once", pool.connectionsMax),
    gauge("pool_connections_in_use", "Connections to Postgres that run a statement", pool.inUse),
    gauge("pool_waiting", "Statements that wait for a connection to Postgres", pool.waiting),
    family("counter", {
      name: "errors_total",
      help: "Errors reported, by the status that was answered",
      samples: [...errors].map(([status, value]) => ({ value, labels: { status: `${status}` } })),
    }),
    family("gauge", {
      name: "event_loop_lag_seconds",
      help: "How late timers fired in the last minute; begins with the first scrape",
      samples: byLabel("quantile", {
        "0.5": p50Ms / 1000,
        "0.99": p99Ms / 1000,
        "1": maxMs / 1000,
      }),
    }),
    gauge("process_resident_memory_bytes", "Memory of the process", memory.rss),
    gauge("process_heap_used_bytes", "Heap of V8 in use", memory.heapUsed),
  ];
}

/** Quantiles since start: the histograms are never emptied. */
function latencyFamilies(name: string, what: string, latency: LatencyStats): Family[] {
  const { count, p50Ms, p99Ms, maxMs } = latency;
  const seconds = { "0.5": p50Ms / 1000, "0.99": p99Ms / 1000, "1": maxMs / 1000 };
  return [
    family("gauge", {
      name: `${name}_duration_seconds`,
      help: `${what}: how long they took since start`,
      samples: byLabel("quantile", seconds),
    }),
    counter(`${name}_durations_total`, `${what} that were timed`, count),
  ];
}

function byLabel(label: string, values: Readonly<Record<string, number>>): Sample[] {
  return Object.entries(values).map(([name, value]) => ({ value, labels: { [label]: name } }));
}

function counter(name: string, help: string, value: number): Family {
  return family("counter", { name, help, samples: [{ value }] });
}

function gauge(name: string, help: string, value: number): Family {
  return family("gauge", { name, help, samples: [{ value }] });
}

function family(kind: Family["kind"], { name, ...rest }: Omit<Family, "kind">): Family {
  return { name: `lookaside_${name}`, kind, ...rest };
}
