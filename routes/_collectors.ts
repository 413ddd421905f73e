/**
 * The service's own metrics for Prometheus, besides those of its cache.
 *
 * @module
 */
import { Registry } from "prom-client";
import { collect, type MeasuredCache, Metrics, type Sample } from "../cache/prometheus/mod.ts";
import type { PoolStats } from "../db/database.ts";
import type { EventLoopLagStats } from "./_event_loop_lag.ts";
import type { RequestCount } from "./_request_counts.ts";

/** The counters that metrics read. */
export interface Sources {
  /** The cache, with the changes that are reported to it. */
  readonly cache: MeasuredCache;
  /** The audit of answers, if enabled. */
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

/** A registry of all metrics. */
export function collectorsOf(sources: Sources): Registry {
  const registry = new Registry();
  collect(registry, sources.cache);
  const to = new Metrics(registry, "lookaside_");
  const { audit } = sources;
  if (audit !== undefined) {
    to.counter("audits_total", "Answers compared with Postgres", () => audit().audited);
    to.counter("audit_stale_total", "Audited answers that were wrong", () => audit().stale);
  }
  collectProcess(to, sources);
  return registry;
}

function collectProcess(to: Metrics, sources: Sources): void {
  const { requests, errors, pool, memory, eventLoopLag } = sources;
  to.counter(
    "requests_total",
    "Requests answered",
    () =>
      requests().map(({ method, route, status, count }): Sample => [
        count,
        { method, route, status: `${status}` },
      ]),
    ["method", "route", "status"],
  );
  to.gauge(
    "pool_connections_max",
    "The most connections to Postgres at once",
    () => pool().connectionsMax,
  );
  to.gauge(
    "pool_connections_in_use",
    "Connections to Postgres that run a statement",
    () => pool().inUse,
  );
  to.gauge(
    "pool_waiting",
    "Statements that wait for a connection to Postgres",
    () => pool().waiting,
  );
  to.counter(
    "errors_total",
    "Errors reported, by the status that was answered",
    () => [...errors()].map(([status, value]): Sample => [value, { status: `${status}` }]),
    ["status"],
  );
  to.quantiles(
    "event_loop_lag_seconds",
    "How late timers fired in the last minute; begins with the first scrape",
    eventLoopLag,
  );
  to.gauge("process_resident_memory_bytes", "Memory of the process", () => memory().rss);
  to.gauge("process_heap_used_bytes", "Heap of V8 in use", () => memory().heapUsed);
}
