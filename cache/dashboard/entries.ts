/**
 * The routes of the page's inspector: single entries, and clearing the cache.
 *
 * @module
 */
import type { Hono, MiddlewareHandler } from "hono";
import type { Cache } from "../cache.ts";
import { isKey, KEY_LENGTH_MAX } from "../keys.ts";
import { failure } from "./failure.ts";
import type { InvalidationLog } from "./invalidation_log.ts";

/** The methods for inspecting and invalidating by hand. */
export type EntryCache = Pick<Cache, "inspect" | "delete" | "clear">;

/** Adds the routes of entries, all behind `guard`. */
export function addEntryRoutes(
  app: Hono,
  cache: EntryCache,
  { guard, invalidations }: {
    readonly guard: MiddlewareHandler;
    readonly invalidations: InvalidationLog | undefined;
  },
): void {
  app.get("/cache/entries/:key", guard, async (context) => {
    const key = keyIn(context.req.path);
    if (key === undefined) return invalidKey();
    const { memory = null, redis = null, redisReached } = await cache.inspect(key);
    context.header("cache-control", "no-store");
    return context.json({ key, memory, redis, redisReached });
  });

  app.delete("/cache/entries/:key", guard, async (context) => {
    const key = keyIn(context.req.path);
    if (key === undefined) return invalidKey();
    const pending = await cache.delete(key) === "pending";
    invalidations?.note("admin", { keys: [key] }, { pending });
    return context.json({ message: pending ? "Entry invalidation pending" : "Entry invalidated" });
  });

  app.delete("/cache", guard, async (context) => {
    const pending = await cache.clear() === "pending";
    invalidations?.note("admin", { everything: true }, { pending });
    return context.json({ message: pending ? "Cache clear pending" : "Cache cleared" });
  });
}

/** The key at the end of a path; `undefined`: it is none. Hono would take what it cannot decode as it is. */
function keyIn(path: string): string | undefined {
  try {
    const key = decodeURIComponent(path.slice(path.lastIndexOf("/") + 1));
    return isKey(key) ? key : undefined;
  } catch (error) {
    if (error instanceof URIError) return undefined;
    throw error;
  }
}

function invalidKey(): Response {
  const message = "Expected a key without braces and control characters, of at most " +
    `${KEY_LENGTH_MAX} characters, percent-encoded`;
  return failure(400, { error: "Invalid request", issues: [{ path: "key", message }] });
}
