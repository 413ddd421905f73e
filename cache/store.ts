/**
 * The port to the tier behind memory: what the engine asks of it, whatever the topology.
 *
 * A method rejects when the store cannot answer now, and then it may or may not have taken effect. The
 * store reports each failure by itself (`redis-error`), so that its callers need not. Names are logical;
 * a store makes its own keys of them.
 *
 * @module
 */

import type { Entry } from "./entry.ts";

/** The store, as the engine sees it: Redis in any topology, or this process. */
export interface Store {
  /** The tier that an answer from here names as its source. */
  readonly source: "redis" | "memory";
  /** Reads what stands under a key; `null` if nothing does. */
  get(key: string): Promise<Stored | null>;
  /** Takes the lease on a key, unless a value unlike `seen` or a lease under the same tags stands. */
  acquire(key: string, lease: string, options: AcquireOptions): Promise<Acquired>;
  /** Stores an entry if and only if `lease` still stands, and ends it. Answers whether it stood. */
  fill(key: string, lease: string, entry: Entry): Promise<boolean>;
  /** Ends `lease` if it stands; its successor, if there is one, takes its place. */
  release(key: string, lease: string, successor?: Successor): Promise<void>;
  /** Stores an entry and ends any lease, as one step. */
  set(key: string, entry: Entry): Promise<void>;
  /** Removes values and leases: each key as one step. */
  invalidate(keys: readonly string[]): Promise<void>;
  /** Ends the fresh life of values, which keep their grace, and their leases: each key as one step. */
  expire(keys: readonly string[]): Promise<void>;
  /** Reads tag versions; `null` for a tag that has none. */
  readTags(names: readonly string[]): Promise<(string | null)[]>;
  /** Gives `version` to those of the tags that have none, and answers the versions that stand. */
  createTags(names: readonly string[], version: string): Promise<string[]>;
  /** Gives every tag a new version. */
  writeTags(names: readonly string[], version: string): Promise<void>;
  /** Begins the invalidation feed; it re-opens by itself until the store is closed. */
  follow(listener: FeedListener): void;
  /** Closes every connection. Commands under way reject. */
  close(): Promise<void>;
}

/** The content of a key. */
export interface Stored {
  /** The entry, or why the bytes cannot be read as one. */
  readonly entry: Entry | string;
  /** Tells this entry from another one under the same key; see {@linkcode AcquireOptions.seen}. */
  readonly mark: Uint8Array;
  /** Its size as it is stored. */
  readonly bytes: number;
}

/** Options of {@linkcode Store.acquire}. */
export interface AcquireOptions {
  /** How long the lease stands at most. */
  readonly leaseMs: number;
  /** The mark of the entry that the caller has looked at and found wanting, if there was one. */
  readonly seen: Uint8Array | undefined;
}

/** The answer of {@linkcode Store.acquire}. */
export interface Acquired {
  /** The lease that stands now: the caller's own if it won. Empty when `stored` is there. */
  readonly holder: string;
  /** A value that the caller has not seen yet: no lease was taken. */
  readonly stored: Stored | null;
}

/** A text that takes the place of a lease for some time. */
export interface Successor {
  readonly text: string;
  readonly ms: number;
}

/** The sink of an invalidation feed (Redis: `CLIENT TRACKING`). */
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
  /** Another database stands in the place of the one before. */
  swapped(): void;
}
