/**
 * A cache-aside cache over memory and Redis that stays correct under races, crashes and outages.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 *
 * const rows = new Map([[1, { name: "Ada" }]]);
 *
 * await using cache = new Cache({ url: "memory:" });
 * const found = await cache.getOrLoad("user:1", () => Promise.resolve(rows.get(1)));
 * assert(found.value()?.name === "Ada");
 *
 * rows.set(1, { name: "Grace" }); // the write is committed …
 * await cache.delete("user:1"); // … and only then invalidated
 * const fresh = await cache.getOrLoad("user:1", () => Promise.resolve(rows.get(1)));
 * assert(fresh.value()?.name === "Grace");
 * ```
 *
 * @module
 */

export { Cache, type Loader } from "./cache.ts";
export type {
  CacheServer,
  CatchUpRequest,
  ChangedCache,
  ChangeFollower,
  ChangeListener,
  Changes,
  ChangeSource,
  ChangesStats,
  FollowOptions,
  InvalidatedNames,
  Invalidation,
  OwnWrite,
  TableUse,
  WatchedTable,
} from "./changes.ts";
export {
  CacheClosedError,
  LoadRejectedError,
  LoadTimeoutError,
  OtherSourceError,
  SchemaError,
} from "./errors.ts";
export type { CacheEvent, LookupEvent } from "./events.ts";
export type { HeldEntry, Inspection } from "./operations/inspection.ts";
export type { StoreInfo } from "./operations/server_info.ts";
export { JsonText } from "./json_text.ts";
export type { BatchLoader } from "./load_batch.ts";
export type { LoadContext } from "./load_limit.ts";
export { type Jsonify, Lookup, type Source } from "./lookup.ts";
export type { CacheOptions, EntryOptions, RedisAccess, WarmOptions } from "./options.ts";
export type { Codec, Schema, SchemaResult } from "./reading.ts";
export type { Slot } from "./slot.ts";
export type { Wrapped } from "./wrapped.ts";
export { type Clock, type Runtime, systemRuntime, type Timer } from "./runtime.ts";
export type { CacheStats, LatencyStats, MemoryTierStats, TierStats } from "./stats.ts";
export {
  type Credentials,
  parseTopology,
  type ServerAddress,
  type Topology,
} from "./topologies/url.ts";
