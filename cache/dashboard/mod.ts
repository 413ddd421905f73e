/**
 * A live page about a cache, to be mounted in a Hono or Express app.
 *
 * @example
 * ```ts
 * import { Hono } from "hono";
 * import { bearerAuth } from "hono/bearer-auth";
 * import { Cache } from "@lookaside/cache";
 * import { dashboard } from "@lookaside/cache/dashboard";
 *
 * await using cache = new Cache();
 * const app = new Hono();
 * app.route("/_cache", dashboard(cache, { guard: bearerAuth({ token: "secret" }) }));
 * ```
 *
 * @module
 */

export type { Asset } from "./assets.ts";
export { dashboard, type DashboardOptions, type ShownCache } from "./dashboard.ts";
export type { EntryCache } from "./entries.ts";
export { InvalidationLog, type LoggedInvalidation, type LoggedNames } from "./invalidation_log.ts";
export { Latencies, type LatencyWindow } from "./latencies.ts";
export { type FetchApp, type NodeHandler, nodeHandler } from "./node.ts";
export type { DashboardPlugin } from "./page.ts";
export type { SampledCache } from "./sampler.ts";
