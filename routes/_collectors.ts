/**
 * The service's own metrics for Prometheus, besides those of its cache.
 *
 * @module
 */
import { Registry } from "prom-client";
import { collect, type MeasuredCache, Metrics, type Sample } from "../cache/prometheus/mod.ts";
import type { AuditStats } from "../changes/mod.ts";
import type { Database } from "../db/database.ts";
import type { ErrorCounts } from "./_error_counts.ts";
import type { EventLoopLag } from "./_event_loop_lag.ts";
import type { RequestCounts } from "./_request_counts.ts";

/** The parts of the service that metrics read. */
export interface Sources {
  /** The cache to report. */
  readonly cache: MeasuredCache;
  /** Results of the audit of answers, if enabled. */
  readonly audit?: { stats(): AuditStats };
  /** The connections to Postgres. */
  readonly database: Pick<Database, "pool">;
}

/** Figures that the API itself counts. */
export interface Counted {
  readonly errors: ErrorCounts;
  readonly requests: RequestCounts;
  readonly lag: EventLoopLag;
}

/** A registry of all metrics. */
export function collectorsOf(sources: Sources & Counted): Registry {
  const { cache, audit } = sources;
  const registry = new Registry();
  collect(registry, cache);
  const to = new Metrics(registry, "lookaside_");
  if (audit !== undefined) {
    to.counter("audits_total", "Answers compared with Postgres", () => audit.stats().audited);
    to.counter("audit_stale_total", "Audited answers that were wrong", () => audit.stats().stale);
  }
  collectProcess(to, sources);
  return registry;
}

function collectProcess(to: Metrics, { requests, errors, database, lag }: Sources & Counted): void {
  to.counter(
    "requests_total",
    "Requests answered",
    () =>
      requests.all().map(({ method, route, status, count }): Sample => [
        count,
        { method, route, status: `${status}` },
      ]),
    ["method", "route", "status"],
  );
  to.gauge(
    "pool_connections_max",
    "The most connections to Postgres at once",
    () => database.pool().connectionsMax,
  );
  to.gauge(
    "pool_connections_in_use",
    "Connections to Postgres that run a statement",
    () => database.pool().inUse,
  );
  to.gauge(
    "pool_waiting",
    "Statements that wait for a connection to Postgres",
    () => database.pool().waiting,
  );
  to.counter(
    "errors_total",
    "Errors reported, by the status that was answered",
    () => [...errors.byStatus()].map(([status, value]): Sample => [value, { status: `${status}` }]),
    ["status"],
  );
  to.quantiles(
    "event_loop_lag_seconds",
    "How late timers fired in the last minute; begins with the first scrape",
    () => lag.stats(),
  );
  to.gauge("process_resident_memory_bytes", "Memory of the process", () => Deno.memoryUsage().rss);
  to.gauge("process_heap_used_bytes", "Heap of V8 in use", () => Deno.memoryUsage().heapUsed);
}
