/**
 * A cache in front of Hono routes.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Hono } from "hono";
 * import { Cache } from "@lookaside/cache";
 * import { cached } from "@lookaside/cache/hono";
 *
 * await using cache = new Cache();
 * const app = new Hono();
 * let made = 0;
 * app.get("/report", cached(cache, { ttlMs: 60_000 }), (context) => context.json({ made: ++made }));
 *
 * await app.request("/report");
 * const again = await app.request("/report");
 * assert.deepEqual(await again.json(), { made: 1 });
 * assert.match(again.headers.get("cache-status") ?? "", /^Lookaside; hit; ttl=\d+; detail=memory$/);
 * ```
 *
 * @module
 */

export { Answers, type Head } from "./answers.ts";
export { cached, type CachedOptions } from "./cached.ts";
export { worstOf } from "./cache_status.ts";
export { matchesEtag, weakEtag } from "./etag.ts";
