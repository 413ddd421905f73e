/**
 * The figures for Prometheus.
 *
 * Requests are counted beside the responses, and errors where they are reported, so that no response waits.
 *
 * @module
 */
import type { Hono, MiddlewareHandler } from "hono";
import type { Registry } from "prom-client";
import type { Cache, Clock } from "../cache/mod.ts";
import type { ChangesStats } from "../cache/mod.ts";
import type { Database } from "../db/database.ts";
import { guarded, type Paths, text, UNSTORED } from "./_description.ts";
import type { ErrorCounts } from "./_error_counts.ts";
import { EventLoopLag } from "./_event_loop_lag.ts";
import type { RequestCounts } from "./_request_counts.ts";

export interface MetricsDependencies {
  /** The cache to report. */
  readonly cache: Pick<Cache, "stats">;
  /** Figures of the changes. May reject while Postgres is down. */
  readonly changes: { stats(): Promise<ChangesStats> };
  /** Results of the audit of answers, if enabled. */
  readonly audit?: { stats(): { readonly audited: number; readonly stale: number } };
  /** The connections to Postgres. */
  readonly database: Pick<Database, "pool">;
  /** Ends measurements between scrapes. */
  readonly stopping: AbortSignal;
  /** For the lag of the event loop. */
  readonly clock: Clock;
}

/** Figures that are counted elsewhere. */
interface Counted {
  readonly errors: ErrorCounts;
  readonly requests: RequestCounts;
}

/** Adds `GET /metrics`, behind `guard`. */
export function addMetricsRoute(
  app: Hono,
  dependencies: MetricsDependencies & Counted,
  guard: MiddlewareHandler,
): void {
  const lag = new EventLoopLag(dependencies.clock, dependencies.stopping);
  let registry: Promise<Registry> | undefined;
  app.get("/metrics", guard, async (context) => {
    registry ??= registryOf(dependencies, lag);
    const { contentType } = await registry;
    const metrics = await (await registry).metrics();
    return context.body(metrics, 200, { "content-type": contentType, "cache-control": "no-store" });
  });
}

/** Imported at the first scrape, so that it does not slow down the start. */
async function registryOf(
  { cache, changes, audit, database, errors, requests }: MetricsDependencies & Counted,
  lag: EventLoopLag,
): Promise<Registry> {
  const { collectorsOf } = await import("./_collectors.ts");
  return collectorsOf({
    cache: { stats: () => cache.stats(), changes: { stats: () => changes.stats() } },
    ...(audit === undefined ? {} : { audit: () => audit.stats() }),
    requests: () => requests.all(),
    errors: () => errors.byStatus(),
    pool: () => database.pool(),
    memory: () => Deno.memoryUsage(),
    eventLoopLag: () => lag.stats(),
  });
}

/** Describes `GET /metrics`. */
export function describeMetrics(): Paths {
  return {
    "/metrics": {
      get: guarded("metrics", {
        summary: "Metrics for Prometheus",
        tags: ["Service"],
        responses: { 200: text("In the text format", UNSTORED, "text/plain") },
      }),
    },
  };
}
