/**
 * The dashboard of a cache, as a Hono app.
 *
 * @module
 */
import { Hono, type MiddlewareHandler } from "hono";
import { assertOptions, type Types } from "../options.ts";
import { type Clock, systemRuntime } from "../runtime.ts";
import { addEntryRoutes, type EntryCache } from "./entries.ts";
import { failure } from "./failure.ts";
import type { InvalidationLog } from "./invalidation_log.ts";
import type { Latencies } from "./latencies.ts";
import { LiveFeed } from "./live_feed.ts";
import { addPageRoutes, type DashboardPlugin } from "./page.ts";
import { type SampledCache, Sampler } from "./sampler.ts";

/** The methods of a cache that a dashboard uses. */
export type ShownCache = SampledCache & EntryCache;

/** Options of {@linkcode dashboard}. Without `guard` and `open`, the page shows no data. */
export interface DashboardOptions {
  /**
   * Guards the data and all actions. The page and its scripts are public: if the guard answers 401 with
   * `WWW-Authenticate: Bearer`, as Hono's `bearerAuth` does, the page asks for the token.
   */
  readonly guard?: MiddlewareHandler;
  /**
   * Admits every request, for programs that already keep others out. Requests from other sites are still
   * refused. Default false.
   */
  readonly open?: boolean;
  /** Durations of reads, for a chart. Default: no chart. */
  readonly latencies?: Latencies;
  /** Invalidations, for a table that also lists those made on the page. Default: no table. */
  readonly invalidations?: InvalidationLog;
  /** Adds to the page. Called when it is first needed. */
  readonly plugin?: () => Promise<DashboardPlugin>;
  /** Ends the streams of viewers, which would otherwise delay a server that stops. */
  readonly signal?: AbortSignal;
  /** The clock. Default: the system's. */
  readonly clock?: Clock;
}

/** The options of {@linkcode dashboard}. A text for `open`, as from the environment, would admit everybody. */
const DASHBOARD: Types<keyof DashboardOptions> = {
  guard: "function",
  open: "boolean",
  latencies: "object",
  invalidations: "object",
  plugin: "function",
  signal: "object",
  clock: "object",
};

/**
 * Makes a Hono app that shows a live cache. It can be mounted anywhere: all its links are relative.
 *
 * - `GET /`: the page.
 * - `GET /dashboard/:file`: its scripts and styles.
 * - `GET /cache/live`: a sample each second, as Server-Sent Events.
 * - `GET /cache/entries/:key`, `DELETE /cache/entries/:key`: shows or invalidates the entries of a key.
 * - `DELETE /cache`: clears the cache.
 *
 * @throws {TypeError} An option is unknown or has another type.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Hono } from "hono";
 * import { bearerAuth } from "hono/bearer-auth";
 * import { Cache } from "@lookaside/cache";
 * import { dashboard } from "@lookaside/cache/dashboard";
 *
 * await using cache = new Cache();
 * const app = new Hono();
 * app.route("/_cache", dashboard(cache, { guard: bearerAuth({ token: "secret" }) }));
 *
 * assert.equal((await app.request("/_cache")).status, 200); // the page, which asks for the token
 * assert.equal((await app.request("/_cache/cache/live")).status, 401);
 * ```
 */
export function dashboard(cache: ShownCache, options: DashboardOptions = {}): Hono {
  assertOptions(options, DASHBOARD);
  const { plugin, signal, invalidations, clock = systemRuntime.clock } = options;
  const { guard = options.open ? sameSiteOnly : closed } = options;
  const sampler = new Sampler(cache, { ...options, clock });
  const feed = new LiveFeed({ sample: () => sampler.take(), clock, signal });
  const app = new Hono();
  addPageRoutes(app, plugin);
  app.get("/cache/live", guard, ({ req }) => {
    const headers = { "content-type": "text/event-stream", "cache-control": "no-store" };
    if (req.method === "HEAD") return new Response(null, { headers });
    const stream = feed.listen();
    if (stream !== undefined) return new Response(stream, { headers });
    return failure(503, { error: "Too many are looking on" }, { "retry-after": "1" });
  });
  addEntryRoutes(app, cache, { guard, invalidations });
  return app;
}

/** Refuses everything: keys are visible and entries can be invalidated here. */
const closed: MiddlewareHandler = () => {
  const error =
    "Closed: give dashboard() a guard, or `open: true` where the program keeps others out";
  return Promise.resolve(failure(403, { error }));
};

/** Refuses requests from other sites, which a browser would send with its user's credentials. */
const sameSiteOnly: MiddlewareHandler = async ({ req }, next) => {
  const site = req.header("sec-fetch-site") ?? "none";
  if (site !== "same-origin" && site !== "none") {
    return failure(403, { error: "Forbidden to pages of other sites" });
  }
  await next();
};
