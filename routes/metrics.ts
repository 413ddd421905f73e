/**
 * The figures for Prometheus.
 *
 * Requests are counted beside the answers and errors where they are reported, so that no answer waits
 * for it.
 *
 * @module
 */
import type { Hono, MiddlewareHandler } from "hono";
import type { Cache, Clock } from "../cache/mod.ts";
import type { ChangeFeedStats } from "../changes/relay.ts";
import type { Database } from "../db/database.ts";
import type { ErrorCounts } from "./_error_counts.ts";
import { EventLoopLag } from "./_event_loop_lag.ts";
import { familiesOf, type Family, type Snapshot } from "./_metric_families.ts";
import type { RequestCounts } from "./_request_counts.ts";

/** What the metrics are made of. */
export interface MetricsDependencies {
  /** The cache to tell of. */
  readonly cache: Pick<Cache, "stats">;
  /** What the change feed did and has to do. May reject while Postgres is down. */
  readonly changes: { stats(): Promise<ChangeFeedStats> };
  /** What the audit of answers found, where there is one. */
  readonly audit?: { stats(): { readonly audited: number; readonly stale: number } };
  /** The connections to Postgres. */
  readonly database: Pick<Database, "pool">;
  /** Ends what is measured between scrapes. */
  readonly stopping: AbortSignal;
  /** For the lag of the event loop. */
  readonly clock: Clock;
}

/** What is counted elsewhere. */
interface Counted {
  readonly errors: ErrorCounts;
  readonly requests: RequestCounts;
}

/** Adds `GET /metrics`. `guard` stands before it. */
export function addMetricsRoute(
  app: Hono,
  dependencies: MetricsDependencies & Counted,
  guard: MiddlewareHandler,
): void {
  const lag = new EventLoopLag(dependencies.clock, dependencies.stopping);
  app.get("/metrics", guard, async (context) => {
    const { contentType, text } = await expose(familiesOf(await snapshotOf(dependencies, lag)));
    return context.body(text, 200, { "content-type": contentType, "cache-control": "no-store" });
  });
}

async function snapshotOf(
  { cache, changes, audit, database, errors, requests }: MetricsDependencies & Counted,
  lag: EventLoopLag,
): Promise<Snapshot> {
  const relay = await changes.stats().catch(() => undefined); // without Postgres nobody can tell
  return {
    cache: cache.stats(),
    changes: relay,
    audit: audit?.stats(),
    requests: requests.all(),
    errors: errors.byStatus(),
    pool: database.pool(),
    memory: Deno.memoryUsage(),
    eventLoopLag: lag.stats(),
  };
}

/** In the text format. A registry for each scrape: nothing is kept that could differ from the counters. */
async function expose(
  families: readonly Family[],
): Promise<{ readonly contentType: string; readonly text: string }> {
  // Imported when first scraped, so that no start waits for it.
  const { Counter, Gauge, Registry } = await import("prom-client");
  const registry = new Registry();
  for (const { name, help, kind, samples } of families) {
    const labelNames = Object.keys(samples[0]?.labels ?? {});
    const options = { name, help, labelNames, registers: [registry] };
    const metric = kind === "counter" ? new Counter(options) : new Gauge(options);
    for (const { value, labels = {} } of samples) metric.inc({ ...labels }, value);
  }
  return { contentType: registry.contentType, text: await registry.metrics() };
}
