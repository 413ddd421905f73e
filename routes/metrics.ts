/**
 * The figures for Prometheus.
 *
 * Requests are counted beside the responses, and errors where they are reported, so that no response waits.
 *
 * @module
 */
import type { Hono, MiddlewareHandler } from "hono";
import type { Registry } from "prom-client";
import type { Clock } from "../cache/mod.ts";
import type { Counted, Sources } from "./_collectors.ts";
import { guarded, type Paths, text, UNSTORED } from "./_description.ts";
import { EventLoopLag } from "./_event_loop_lag.ts";

export interface MetricsDependencies extends Sources {
  /** Ends measurements between scrapes. */
  readonly stopping: AbortSignal;
  /** For the lag of the event loop. */
  readonly clock: Clock;
}

/** Adds `GET /metrics`, behind `guard`. */
export function addMetricsRoute(
  app: Hono,
  dependencies: MetricsDependencies & Omit<Counted, "lag">,
  guard: MiddlewareHandler,
): void {
  const lag = new EventLoopLag(dependencies.clock, dependencies.stopping);
  let registry: Promise<Registry> | undefined;
  app.get("/metrics", guard, async (context) => {
    // Imported at the first scrape, so that it does not slow down the start.
    registry ??= import("./_collectors.ts").then(({ collectorsOf }) =>
      collectorsOf({ ...dependencies, lag })
    );
    const collected = await registry;
    return context.body(await collected.metrics(), 200, {
      "content-type": collected.contentType,
      "cache-control": "no-store",
    });
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
