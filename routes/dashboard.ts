/**
 * The dashboard of the service: that of its cache, with the steps of the tutorial.
 *
 * @module
 */
import type { Hono, MiddlewareHandler } from "hono";
import { z } from "zod";
import {
  dashboard,
  type DashboardPlugin,
  type InvalidationLog,
  type Latencies,
  type ShownCache,
} from "../cache/dashboard/mod.ts";
import type { Clock } from "../cache/mod.ts";
import { addBreakItRoutes, PANEL, type PassOn } from "./_break_it.ts";
import {
  away,
  ETAG,
  failure,
  FRESH,
  guarded,
  header,
  IF_NONE_MATCH,
  type Paths,
  text,
  unchanged,
  UNSTORED,
} from "./_description.ts";

export interface DashboardDependencies {
  /** The cache to show. */
  readonly cache: ShownCache;
  /** The latest invalidations. */
  readonly invalidations: InvalidationLog;
  /** Times the samples. */
  readonly clock: Clock;
  /** Ends the streams of viewers. */
  readonly stopping: AbortSignal;
  /** Forwards requests to the panel of `deno task dev`. Default: no panel. */
  readonly breakIt?: PassOn;
}

export type { PassOn } from "./_break_it.ts";

/** Adds the routes of the dashboard. Its data is behind `guard`. */
export function addDashboardRoutes(
  app: Hono,
  dependencies: DashboardDependencies & { readonly latencies: Latencies },
  guard: MiddlewareHandler,
): void {
  const { cache, latencies, invalidations, clock, stopping, breakIt } = dependencies;
  const plugin = async (): Promise<DashboardPlugin> => {
    const { PLUGIN } = await import("../web/assets.ts");
    return breakIt === undefined ? PLUGIN : { ...PLUGIN, head: PLUGIN.head + PANEL };
  };
  app.route(
    "/",
    dashboard(cache, { guard, latencies, invalidations, plugin, clock, signal: stopping }),
  );
  if (breakIt !== undefined) addBreakItRoutes(app, breakIt, guard);
}

/** Describes the routes of the dashboard. */
export function describeDashboard(): Paths {
  const served = {
    "Content-Security-Policy": header("Allows the page its own files alone"),
    ...ETAG,
    ...FRESH,
  };
  const file = z.string().meta({ description: "The file's name", example: "main.js" });
  return {
    "/": {
      get: {
        operationId: "dashboard",
        summary: "The dashboard",
        tags: ["Service"],
        requestParams: { header: IF_NONE_MATCH },
        responses: { 200: text("A page", served, "text/html"), 304: unchanged(served) },
      },
    },
    "/dashboard/{file}": {
      get: {
        operationId: "dashboardFile",
        summary: "What the dashboard loads",
        tags: ["Service"],
        requestParams: { path: z.object({ file }), header: IF_NONE_MATCH },
        responses: {
          200: text("The file", served, "text/javascript", "text/css", "image/svg+xml"),
          304: unchanged(served),
          404: failure("There is no such file", UNSTORED),
        },
      },
    },
    "/cache/live": {
      get: guarded("watchCache", {
        summary: "Sends the dashboard's figures every second",
        description:
          "As Server-Sent Events. What they hold is the dashboard's affair, and may change.",
        tags: ["Cache"],
        responses: {
          200: text("Events without an end", UNSTORED, "text/event-stream"),
          503: away("Too many are looking on, or the service stops"),
        },
      }),
    },
  };
}
