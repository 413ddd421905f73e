/**
 * Single entries of the cache: what the tiers hold of a key, and a way to invalidate it.
 *
 * @module
 */
import type { Hono, MiddlewareHandler } from "hono";
import type { Cache } from "../cache/mod.ts";
import { parseEntryKey } from "./_input.ts";
import type { InvalidationLog } from "./invalidation_log.ts";

/** What the routes of entries need. */
export interface EntriesDependencies {
  /** The cache to look into and to invalidate in. */
  readonly cache: Pick<Cache, "delete" | "inspect">;
  /** Told what is invalidated here. */
  readonly invalidations: InvalidationLog;
}

/**
 * Adds the routes of entries. `guard` stands before all of them.
 *
 * - `GET /cache/entries/:key`: what the tiers hold.
 * - `DELETE /cache/entries/:key`: invalidates it.
 */
export function addEntryRoutes(
  app: Hono,
  { cache, invalidations }: EntriesDependencies,
  guard: MiddlewareHandler,
): void {
  app.get("/cache/entries/:key", guard, async (context) => {
    const key = parseEntryKey(context.req.param("key"));
    if (key instanceof Response) return key;
    const { memory = null, redis = null, redisReached } = await cache.inspect(key);
    context.header("cache-control", "no-store");
    return context.json({ key, memory, redis, redisReached });
  });

  app.delete("/cache/entries/:key", guard, async (context) => {
    const key = parseEntryKey(context.req.param("key"));
    if (key instanceof Response) return key;
    const pending = await cache.delete(key) === "pending";
    invalidations.note("admin", { keys: [key] }, { pending });
    return context.json({ message: pending ? "Entry invalidation pending" : "Entry invalidated" });
  });
}
