/**
 * Answers Drizzle's queries from a cache that is never stale.
 *
 * @module
 */

export type { UsedCache } from "./query_cache.ts";
export { type DrizzleDatabase, type QueryCacheOptions, withCache } from "./with_cache.ts";
