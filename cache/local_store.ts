import { LRUCache } from "lru-cache";
import type { Entry, TagVersion } from "./entry.ts";
import { stampOf } from "./lease.ts";
import type { MemoryParts, MemoryTier } from "./memory_tier.ts";
import type { Acquired, FeedListener, Store, Stored, Successor } from "./store.ts";

/** Limit of tag versions. A tag without a version counts as changed, so dropping one is safe. */
const TAGS_MAX = 10_000;
/** Number of leases from which expired ones are looked for. */
const LEASES_MIN = 1_000;

/** A lease and its end on the monotonic clock. */
interface LocalLease {
  readonly text: string;
  readonly untilMs: number;
}

/**
 * The store of a cache without Redis: leases and tags of this process. Values are those of the memory tier, so
 * that each is kept once.
 */
export class LocalStore implements Store {
  readonly source = "memory";
  readonly #parts: MemoryParts;
  readonly #values: MemoryTier;
  readonly #leases = new Map<string, LocalLease>();
  readonly #tags = new LRUCache<string, string>({ max: TAGS_MAX });
  #leasesMax = LEASES_MIN;

  constructor(parts: MemoryParts, values: MemoryTier) {
    this.#parts = parts;
    this.#values = values;
  }

  get(key: string): Promise<Stored | null> {
    return Promise.resolve(this.#values.stored(key));
  }

  acquire(key: string, lease: string, seen: Uint8Array | undefined): Promise<Acquired> {
    const stored = this.#values.stored(key);
    if (stored !== null && !sameMark(stored.mark, seen)) {
      return Promise.resolve({ holder: "", stored });
    }
    const held = this.#leaseOn(key);
    if (held !== undefined && stampOf(held) === stampOf(lease)) {
      return Promise.resolve({ holder: held, stored: null });
    }
    this.#setLease(key, lease, this.#parts.settings.leaseMs);
    return Promise.resolve({ holder: lease, stored: null });
  }

  fill(key: string, lease: string, entry: Entry): Promise<boolean> {
    if (this.#leaseOn(key) !== lease) return Promise.resolve(false);
    this.#install(key, entry);
    return Promise.resolve(true);
  }

  release(key: string, lease: string, successor?: Successor): Promise<void> {
    if (this.#leaseOn(key) !== lease) return Promise.resolve();
    if (successor !== undefined) this.#setLease(key, successor.text, successor.ms);
    else this.#leases.delete(key);
    return Promise.resolve();
  }

  set(key: string, entry: Entry): Promise<void> {
    this.#values.drop([key]);
    this.#install(key, entry);
    return Promise.resolve();
  }

  invalidate(keys: readonly string[]): Promise<void> {
    for (const key of keys) this.#leases.delete(key);
    this.#values.drop(keys);
    return Promise.resolve();
  }

  expire(keys: readonly string[]): Promise<void> {
    for (const key of keys) {
      this.#leases.delete(key);
      this.#values.expire(key);
    }
    return Promise.resolve();
  }

  readTags(names: readonly string[]): Promise<(string | null)[]> {
    return Promise.resolve(names.map((name) => this.#tags.get(name) ?? null));
  }

  createTags(names: readonly string[], version: string): Promise<string[]> {
    return Promise.resolve(names.map((name) => {
      const standing = this.#tags.get(name) ?? version;
      this.#tags.set(name, standing);
      return standing;
    }));
  }

  writeTags(names: readonly string[], version: string): Promise<void> {
    for (const name of names) this.#tags.set(name, version);
    return Promise.resolve();
  }

  /** Takes over the tag versions of another store. */
  adopt(tags: readonly TagVersion[]): void {
    this.#tags.clear();
    this.#leases.clear();
    for (const { name, version } of tags) this.#tags.set(name, version);
  }

  /** Announces nothing: every change is made by this process, which has already applied it. */
  follow(_listener: FeedListener): void {}

  close(): Promise<void> {
    return Promise.resolve();
  }

  #install(key: string, entry: Entry): void {
    const { coherence, held } = this.#parts;
    this.#leases.delete(key);
    for (const { name, version } of entry.tags) {
      if (this.#tags.get(name) === version) held.hold(name, version);
    }
    this.#values.install(key, entry, coherence.epoch(key));
  }

  #leaseOn(key: string): string | undefined {
    const lease = this.#leases.get(key);
    return lease !== undefined && this.#nowMs() < lease.untilMs ? lease.text : undefined;
  }

  #setLease(key: string, text: string, ms: number): void {
    const nowMs = this.#nowMs();
    this.#leases.set(key, { text, untilMs: nowMs + ms });
    if (this.#leases.size <= this.#leasesMax) return;
    for (const [name, { untilMs }] of this.#leases) {
      if (untilMs <= nowMs) this.#leases.delete(name);
    }
    this.#leasesMax = Math.max(LEASES_MIN, 2 * this.#leases.size);
  }

  #nowMs(): number {
    return this.#parts.runtime.clock.monotonicNow();
  }
}

function sameMark(mark: Uint8Array, seen: Uint8Array | undefined): boolean {
  return seen !== undefined && mark.every((byte, i) => byte === seen[i]);
}
