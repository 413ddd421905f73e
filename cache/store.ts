/**
 * The interface to the tier behind memory, the same for every topology.
 *
 * A method rejects if the store cannot answer now; the command may or may not have taken effect. The store itself
 * reports each failure (`redis-error`), so callers need not. Names are logical; the store derives its own keys.
 *
 * @module
 */

import type { Entry } from "./entry.ts";

/** The store as the engine sees it: Redis in any topology, or this process. */
export interface Store {
  /** The tier that answers from this store name as their source. */
  readonly source: "redis" | "memory";
  /** Reads a key; `null` if it is empty. */
  get(key: string): Promise<Stored | null>;
  /**
   * Takes the lease on a key, unless there is a value or a lease under the same tag versions.
   *
   * @param seen The mark of the value that the caller has read and cannot use, if there was one: it does not count.
   */
  acquire(key: string, lease: string, seen: Uint8Array | undefined): Promise<Acquired>;
  /** Stores an entry if `lease` still stands, and ends the lease. Answers true if it was stored. */
  fill(key: string, lease: string, entry: Entry): Promise<boolean>;
  /** Ends `lease` if it still stands, and puts the successor, if any, in its place. */
  release(key: string, lease: string, successor?: Successor): Promise<void>;
  /** Stores an entry and ends any lease, atomically. */
  set(key: string, entry: Entry): Promise<void>;
  /** Removes values and leases, atomically per key. */
  invalidate(keys: readonly string[]): Promise<void>;
  /** Ends leases and the fresh life of values, which keep their grace; atomically per key. */
  expire(keys: readonly string[]): Promise<void>;
  /** Reads tag versions; `null` for a tag that has none. */
  readTags(names: readonly string[]): Promise<(string | null)[]>;
  /** Gives `version` to those tags that have none, and answers the current versions. */
  createTags(names: readonly string[], version: string): Promise<string[]>;
  /** Gives every tag a new version. */
  writeTags(names: readonly string[], version: string): Promise<void>;
  /** Opens the invalidation feed, which reopens by itself until the store is closed. */
  follow(listener: FeedListener): void;
  /** Closes every connection. Running commands reject. */
  close(): Promise<void>;
}

/** The content of a key. */
export interface Stored {
  /** The entry, or the reason why the bytes cannot be read. */
  readonly entry: Entry | string;
  /** Distinguishes this entry from others under the same key; see {@linkcode Store.acquire}. */
  readonly mark: Uint8Array;
  /** Its stored size. */
  readonly bytes: number;
}

/** The answer of {@linkcode Store.acquire}. */
export interface Acquired {
  /** The current lease: the caller's own if it won. Empty if `stored` is set. */
  readonly holder: string;
  /** A value that the caller has not seen: no lease was taken. */
  readonly stored: Stored | null;
}

/** A text that replaces a lease for some time. */
export interface Successor {
  readonly text: string;
  readonly ms: number;
}

/** The sink of an invalidation feed (Redis: `CLIENT TRACKING`). */
export interface FeedListener {
  /** The feed opened: every change is announced from now on. Entries in memory are not covered. */
  opened(): void;
  /** The feed ended; later changes may be missed. */
  closed(reason: string): void;
  /** Every change made before `sentAtMs` (monotonic) has been announced here. */
  alive(sentAtMs: number): void;
  /** A Redis key of this cache was written, deleted, evicted or expired, by anyone. */
  changed(redisKey: string): void;
  /** Everything was deleted. */
  flushed(): void;
}
