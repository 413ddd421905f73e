/**
 * The figures for Prometheus.
 *
 * Requests are not among them: to count each, every answer would have to pass one more promise. The
 * look-ups tell how many reads there are, and the errors are counted where they are reported.
 *
 * @module
 */
import type { Hono, MiddlewareHandler } from "hono";
import { setImmediate } from "node:timers/promises";
import type { Cache, Clock } from "../cache/mod.ts";
import type { ChangeFeedStats } from "../db/changes.ts";
import type { ErrorCounts } from "./_error_counts.ts";
import { familiesOf, type Family, type Snapshot } from "./_metric_families.ts";

/** What the metrics are made of. */
export interface MetricsDependencies {
  /** The cache to tell of. */
  readonly cache: Pick<Cache, "stats">;
  /** What the change feed did and has to do. May reject while Postgres is down. */
  readonly changes: { stats(): Promise<ChangeFeedStats> };
  /** What the audit of answers found, where there is one. */
  readonly audit?: { stats(): { readonly audited: number; readonly stale: number } };
  /** For the lag of the event loop. */
  readonly clock: Clock;
}

/** Adds `GET /metrics`. `guard` stands before it; `errors` are counted elsewhere. */
export function addMetricsRoute(
  app: Hono,
  dependencies: MetricsDependencies & { readonly errors: ErrorCounts },
  guard: MiddlewareHandler,
): void {
  app.get("/metrics", guard, async (context) => {
    const { contentType, text } = await expose(familiesOf(await snapshotOf(dependencies)));
    return context.body(text, 200, { "content-type": contentType, "cache-control": "no-store" });
  });
}

async function snapshotOf(
  { cache, changes, audit, clock, errors }: MetricsDependencies & { readonly errors: ErrorCounts },
): Promise<Snapshot> {
  const relay = await changes.stats().catch(() => undefined); // without Postgres nobody can tell
  const startedAtMs = clock.monotonicNow();
  await setImmediate(); // its turn comes when all that waits has run
  const eventLoopLagMs = clock.monotonicNow() - startedAtMs;
  return {
    cache: cache.stats(),
    changes: relay,
    audit: audit?.stats(),
    errors: errors.byStatus(),
    memory: Deno.memoryUsage(),
    eventLoopLagMs,
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
