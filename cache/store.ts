/**
 * The port to the shared tier: what the engine asks of it, whatever the topology.
 *
 * Every method rejects when the tier cannot answer now, and then may or may not have taken effect.
 * Names are logical; the store makes its own keys of them.
 *
 * @module
 */

/**
 * What `CLIENT TRACKING` tells: the sink of an invalidation feed.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import type { FeedListener } from "@lookaside/cache";
 *
 * const dropped: string[] = [];
 * const listener: FeedListener = {
 *   opened: () => dropped.push("everything"), // what was held before is not covered
 *   closed: () => dropped.push("everything"),
 *   alive: () => {},
 *   changed: (redisKey) => dropped.push(redisKey),
 *   flushed: () => dropped.push("everything"),
 * };
 * listener.changed("la:1:{user:42}");
 * assert.deepEqual(dropped, ["la:1:{user:42}"]);
 * ```
 */
export interface FeedListener {
  /** The feed began: from here on every change is announced. What was held before is not covered. */
  opened(): void;
  /** The feed ended; changes may be missed from here on. */
  closed(reason: string): void;
  /** Everything announced up to `sentAtMs` (monotonic) has been delivered. */
  alive(sentAtMs: number): void;
  /** A Redis key of this cache was written, deleted, evicted or expired, by anyone. */
  changed(redisKey: string): void;
  /** Everything was deleted. */
  flushed(): void;
}

/**
 * What {@linkcode Store.acquire} answers.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import type { Acquired } from "@lookaside/cache";
 *
 * const won: Acquired = { holder: "my-nonce", bytes: null };
 * assert(won.holder === "my-nonce" && won.bytes === null); // so the caller may load
 * ```
 */
export interface Acquired {
  /** The lease that stands now: the caller's own if it won. Empty when `bytes` is there. */
  readonly holder: string;
  /** A value that the caller has not seen yet: no lease was taken. */
  readonly bytes: Uint8Array | null;
}

/**
 * What the shared tier says of itself, for a person to read.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 *
 * await using cache = new Cache();
 * const info = await cache.storeInfo();
 * assert.equal(info?.totalKeys, undefined); // there is no Redis
 * ```
 */
export interface StoreInfo {
  /** `INFO stats`. */
  readonly info: string;
  /** `INFO keyspace`. */
  readonly keyspace: string;
  /** `DBSIZE`. */
  readonly totalKeys: number;
}

/**
 * The shared tier.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import type { Store } from "@lookaside/cache";
 *
 * // What `options.store` takes: here one that is asked how much an entry takes.
 * async function bytesOf(store: Store, key: string): Promise<number> {
 *   return (await store.get(key))?.length ?? 0;
 * }
 * assert.equal(bytesOf.length, 2);
 * ```
 */
export interface Store {
  /** Reads the bytes of an entry, or `null`. A key of a foreign type answers empty bytes. */
  get(key: string): Promise<Uint8Array | null>;
  /** Takes the lease on a key, unless a value unlike `seen` or a lease under the same tags stands. */
  acquire(key: string, lease: string, options: AcquireOptions): Promise<Acquired>;
  /** Stores bytes if and only if `lease` still stands, and ends it. Answers whether it stood. */
  fill(key: string, lease: string, options: FillOptions): Promise<boolean>;
  /** Ends `lease` if it stands: at once, or `cooldownMs` from now so that nobody loads till then. */
  release(key: string, lease: string, cooldownMs: number): Promise<void>;
  /** Stores bytes and ends any lease, as one step. */
  set(key: string, bytes: Uint8Array, ttlMs: number): Promise<void>;
  /** Removes values and leases: each key as one step. */
  invalidate(keys: readonly string[]): Promise<void>;
  /** Reads tag versions; `null` for a tag that has none. */
  readTags(names: readonly string[]): Promise<(string | null)[]>;
  /** Gives `version` to those of the tags that have none, and answers the versions that stand. */
  createTags(names: readonly string[], version: string): Promise<string[]>;
  /** Gives every tag a new version. */
  writeTags(names: readonly string[], version: string): Promise<void>;
  /** Begins the invalidation feed; it re-opens by itself until the store is closed. */
  follow(listener: FeedListener): void;
  /** What the tier says of itself. */
  info(): Promise<StoreInfo>;
  /** Closes every connection. Commands under way reject. */
  close(): Promise<void>;
}

/**
 * Options of {@linkcode Store.acquire}.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import type { AcquireOptions } from "@lookaside/cache";
 *
 * const options: AcquireOptions = { leaseMs: 5_000, seen: undefined };
 * assert(options.leaseMs > 0);
 * ```
 */
export interface AcquireOptions {
  /** How long the lease stands at most. */
  readonly leaseMs: number;
  /** Stamp of the entry that the caller has looked at and found wanting, if there was one. */
  readonly seen: Uint8Array | undefined;
}

/**
 * Options of {@linkcode Store.fill}.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import type { FillOptions } from "@lookaside/cache";
 *
 * const options: FillOptions = { bytes: new Uint8Array(40), ttlMs: 60_000 };
 * assert.equal(options.bytes.length, 40);
 * ```
 */
export interface FillOptions {
  /** The entry, header and all. */
  readonly bytes: Uint8Array;
  /** After how long Redis forgets it. */
  readonly ttlMs: number;
}
