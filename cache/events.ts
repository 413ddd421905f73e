/**
 * What the cache tells its owner. Library code does not log: subscribe a logger to these.
 *
 * @module
 */

/**
 * A thing that happened. Keys are logical keys; durations are milliseconds; a server is told by its name.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache, type CacheEvent } from "@lookaside/cache";
 *
 * const events: CacheEvent[] = [];
 * await using cache = new Cache({ onEvent: (event) => events.push(event) });
 * await cache.delete("user:1");
 * assert.deepEqual(events, [{ type: "invalidate", keys: ["user:1"], pending: false }]);
 * ```
 */
export type CacheEvent =
  | { readonly type: "fill"; readonly key: string; readonly ttlMs: number; readonly costMs: number }
  | { readonly type: "fill-refused"; readonly key: string }
  | { readonly type: "invalidate"; readonly keys: readonly string[]; readonly pending: boolean }
  | {
    readonly type: "invalidate-tags";
    readonly tags: readonly string[];
    readonly pending: boolean;
  }
  | { readonly type: "clear"; readonly pending: boolean }
  | { readonly type: "load-error"; readonly key: string; readonly error: unknown }
  | { readonly type: "refresh-error"; readonly key: string; readonly error: unknown }
  | { readonly type: "unreadable"; readonly key: string; readonly reason: string }
  | {
    readonly type: "coherent";
    readonly server: string;
    readonly coherent: boolean;
    readonly reason: string;
  }
  | {
    readonly type: "redis-error";
    readonly server: string;
    readonly command: string;
    readonly error: unknown;
  }
  | {
    readonly type: "breaker";
    readonly server: string;
    readonly state: "closed" | "open" | "half-open";
  }
  | { readonly type: "connection"; readonly server: string; readonly connected: boolean }
  | { readonly type: "catch-up-error"; readonly server: string; readonly error: unknown }
  | { readonly type: "caught-up"; readonly server: string; readonly replayed: boolean };

/**
 * One read that was answered, for debug logs.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache, type LookupEvent } from "@lookaside/cache";
 *
 * const lookups: LookupEvent[] = [];
 * await using cache = new Cache({ onLookup: (lookup) => lookups.push(lookup) });
 * await cache.getOrLoad("user:1", () => Promise.resolve("Ada"));
 * assert.equal(lookups[0]?.source, "load");
 * ```
 */
export interface LookupEvent {
  /** The logical key. */
  readonly key: string;
  /** Where the answer came from. */
  readonly source: "memory" | "redis" | "load";
  /** Whether it was served past its fresh life. */
  readonly stale: boolean;
  /** How long the read took, in milliseconds. */
  readonly durationMs: number;
}
