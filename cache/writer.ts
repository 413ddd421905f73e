import type { Invalidation } from "./changes.ts";
import type { Coherence } from "./coherence.ts";
import { encodeEntry } from "./entry.ts";
import type { CacheEvent } from "./events.ts";
import type { Fills } from "./fills.ts";
import type { Keyspace } from "./keys.ts";
import type { Loads } from "./loads.ts";
import type { MemoryStore } from "./memory_store.ts";
import type { MemoryTier } from "./memory_tier.ts";
import type { EntryOptions, Settings } from "./options.ts";
import type { PendingInvalidations } from "./pending.ts";
import type { Runtime } from "./runtime.ts";
import type { Counters } from "./stats.ts";
import type { FeedListener, Store } from "./store.ts";
import { ROOT_TAG, type Tags } from "./tags.ts";
import type { Waiters } from "./waiters.ts";

/** What the write path works with. */
export interface WriterParts {
  /** What events call the server. */
  readonly server: string;
  readonly settings: Settings;
  readonly runtime: Runtime;
  readonly keyspace: Keyspace;
  readonly store: Store | undefined;
  readonly memory: MemoryStore | undefined;
  readonly coherence: Coherence;
  readonly tags: Tags;
  readonly loads: Loads;
  readonly waiters: Waiters;
  readonly pending: PendingInvalidations | undefined;
  readonly tier: MemoryTier;
  readonly fills: Fills;
  readonly counters: Counters;
  readonly emit: (event: CacheEvent) => void;
}

/**
 * The write path, this process's own and, through the feed, everyone else's.
 *
 * Each invalidation drops the key here twice, before Redis is told and after it has answered:
 *
 * ```text
 * 1. writer: drops the key here
 * 2. reader: GET key is sent, reads the old value, installs it here
 * 3. writer: UNLINK, acknowledged
 * 4. reader: hits the old value here, until the feed announces step 3
 * ```
 */
export class Writer {
  readonly #parts: WriterParts;
  #coherent = false;

  constructor(parts: WriterParts) {
    this.#parts = parts;
  }

  /** Stores a value and voids the lease of whoever is loading it. */
  async set<T>(key: string, value: T, options: EntryOptions<T>): Promise<Invalidation> {
    const { fills, tier, settings, store, tags, pending, runtime } = this.#parts;
    const names = [ROOT_TAG, ...options.tags ?? []];
    fills.entryOf(value, [], options); // misuse throws here, before anything is touched
    this.#drop([key]);
    try {
      const entry = fills.entryOf(value, await tags.ensure(names), options);
      const ttlMs = entry.staleUntilMs - runtime.clock.now();
      if (store === undefined) {
        this.#drop([key]);
        tier.install(key, entry, this.#parts.coherence.epoch(key));
      } else if (ttlMs > 0) {
        await store.set(key, encodeEntry(entry, settings.compressBytesMin), ttlMs);
        this.#drop([key]);
      } else {
        await store.invalidate([key]);
        this.#drop([key]);
      }
      return "applied";
    } catch (_error) {
      // The store has reported it. Whether Redis took the value is unknown, so it is owed a delete.
      pending?.addKeys([key]);
      this.#drop([key]);
      return "pending";
    }
  }

  /** Invalidates keys. */
  async delete(keys: readonly string[]): Promise<Invalidation> {
    const { store, pending, counters, emit } = this.#parts;
    counters.invalidations += keys.length;
    this.#drop(keys);
    let outcome: Invalidation = "applied";
    try {
      await store?.invalidate(keys);
    } catch (_error) {
      // The store has reported it; the debt is remembered.
      pending?.addKeys(keys);
      outcome = "pending";
    }
    this.#drop(keys);
    emit({ type: "invalidate", keys, pending: outcome === "pending" });
    return outcome;
  }

  /** Invalidates the entries of tags. */
  async invalidateTags(names: readonly string[]): Promise<Invalidation> {
    const outcome = await this.#renew(names);
    this.#parts.emit({ type: "invalidate-tags", tags: names, pending: outcome === "pending" });
    return outcome;
  }

  /** Invalidates everything. */
  async clear(): Promise<Invalidation> {
    this.#dropAll();
    const outcome = await this.#renew([ROOT_TAG]);
    this.#dropAll();
    this.#parts.emit({ type: "clear", pending: outcome === "pending" });
    return outcome;
  }

  /** What the feed announces, applied to this process. */
  listener(): FeedListener {
    const { server, coherence, tags, counters, emit, waiters } = this.#parts;
    return {
      opened: () => {
        this.#dropAll();
        tags.forgetAll();
        coherence.open();
      },
      closed: (reason) => {
        coherence.close();
        this.#dropAll();
        tags.forgetAll();
        if (!this.#coherent) return;
        this.#coherent = false;
        counters.feedDrops++;
        emit({ type: "coherent", server, coherent: false, reason });
      },
      alive: (sentAtMs) => {
        coherence.alive(sentAtMs);
        if (this.#coherent) return;
        this.#coherent = true;
        emit({ type: "coherent", server, coherent: true, reason: "the feed answers" });
      },
      changed: (redisKey) => this.#changed(redisKey),
      flushed: () => {
        this.#dropAll();
        tags.forgetAll();
        waiters.wakeAll();
      },
    };
  }

  #changed(redisKey: string): void {
    const { keyspace, tags, waiters } = this.#parts;
    const parsed = keyspace.parse(redisKey);
    if (parsed === undefined) return;
    if (parsed.part === ":tag") return tags.forget([parsed.name]);
    if (parsed.part === "") this.#drop([parsed.name]);
    waiters.wake(parsed.name);
  }

  /** Gives tags a new version, or owes it. */
  async #renew(names: readonly string[]): Promise<Invalidation> {
    try {
      await this.#parts.tags.invalidate(names);
      return "applied";
    } catch (_error) {
      // The store has reported it; the debt is remembered.
      this.#parts.pending?.addTags(names);
      return "pending";
    }
  }

  /** Drops keys here: what memory holds, what is being read, whose load may be joined. */
  #drop(keys: readonly string[]): void {
    const { coherence, memory, loads } = this.#parts;
    for (const key of keys) {
      coherence.bump(key);
      memory?.delete(key);
      loads.detach(key);
    }
  }

  #dropAll(): void {
    const { coherence, memory, loads } = this.#parts;
    coherence.bumpAll();
    memory?.clear();
    loads.detachAll();
  }
}
