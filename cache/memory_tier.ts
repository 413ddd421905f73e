import { LRUCache } from "lru-cache";
import type { Coherence } from "./coherence.ts";
import { earlyRefreshGapMs, type Entry, entryMark } from "./entry.ts";
import { Lookup } from "./lookup.ts";
import type { Settings } from "./options.ts";
import { CoarseClock, type Runtime } from "./runtime.ts";
import type { Counters } from "./stats.ts";
import type { Stored } from "./store.ts";
import type { HeldTag, HeldTags } from "./tags.ts";

/** Bytes per entry besides its key, text and tags: measured, see the test of the memory bound. */
const ENTRY_OVERHEAD_BYTES = 600;
const TAG_REFERENCE_BYTES = 8;

/** An entry in memory, with everything that a hit needs. Times are monotonic milliseconds. */
export interface MemoryEntry {
  /** The entry as it was read. */
  readonly entry: Entry;
  /** Its tags, shared with other entries in memory. */
  readonly tags: readonly HeldTag[];
  /** The answer of a fresh hit, the same object each time: a hit allocates nothing. */
  readonly answer: Promise<Lookup>;
  /** The lookup inside `answer`. */
  readonly lookup: Lookup;
  /** Until this time a hit is answered as it is; after it, refresh or reload. */
  refreshAtMs: number;
  /** The end of the fresh life. */
  freshUntilMs: number;
  /** The end of the grace. */
  staleUntilMs: number;
  /** The tag epoch at which the entry's tags were last found to be current. */
  tagEpoch: number;
}

/** The parts of an engine that its memory tier uses. */
export interface MemoryParts {
  readonly settings: Settings;
  readonly runtime: Runtime;
  readonly coherence: Coherence;
  readonly held: HeldTags;
  readonly counters: Counters;
}

/**
 * Tier 1: recently used entries in this process, limited by bytes, and answered only while they may be trusted.
 * With a limit of 0 it stays empty.
 */
export class MemoryTier {
  readonly #parts: MemoryParts;
  readonly #coherence: Coherence;
  readonly #held: HeldTags;
  readonly #counters: Counters;
  readonly #clock: CoarseClock;
  readonly #bytesMax: number;
  readonly #entries: LRUCache<string, MemoryEntry>;
  #evictions = 0;

  constructor(parts: MemoryParts) {
    this.#parts = parts;
    this.#coherence = parts.coherence;
    this.#held = parts.held;
    this.#counters = parts.counters;
    this.#clock = new CoarseClock(parts.runtime.clock);
    this.#bytesMax = parts.settings.memoryBytes;
    // No `max`, for which room would be taken in advance: 3 MB for 64 MiB, in each cache of a process.
    this.#entries = new LRUCache({
      maxSize: Math.max(1, this.#bytesMax),
      dispose: ({ tags }, _key, reason) => {
        parts.held.uncarry(tags);
        if (reason === "evict") this.#evictions++;
      },
    });
  }

  /** Entries in memory. */
  get size(): number {
    return this.#entries.size;
  }

  /** Bytes counted for the entries and their tags. */
  get bytes(): number {
    return this.#entries.calculatedSize + this.#parts.held.bytes;
  }

  /** Entries dropped for lack of room. */
  get evictions(): number {
    return this.#evictions;
  }

  /** Answers a fresh entry that may be trusted and need not be refreshed yet. The hot path. */
  hit(key: string): MemoryEntry | undefined {
    const found = this.#entries.get(key);
    if (found === undefined) return undefined;
    const nowMs = this.#clock.monotonicNow();
    if (nowMs >= found.refreshAtMs || nowMs >= this.#coherence.trustedUntilMs) return undefined;
    if (found.tagEpoch !== this.#held.epoch && !this.#tagsAreCurrent(found)) return undefined;
    this.#counters.memoryHits++;
    if (found.lookup.text === null) this.#counters.negativeHits++;
    return found;
  }

  /** Answers a fresh entry that may be trusted, even if it should be refreshed early. Otherwise counts a miss. */
  fresh(key: string): MemoryEntry | undefined {
    const { coherence, runtime, counters } = this.#parts;
    const found = this.#entries.get(key);
    const nowMs = runtime.clock.monotonicNow();
    if (
      found === undefined || nowMs >= found.freshUntilMs || nowMs >= coherence.trustedUntilMs ||
      !this.#tagsAreCurrent(found)
    ) {
      if (this.#bytesMax > 0) counters.memoryMisses++;
      return undefined;
    }
    counters.memoryHits++;
    return found;
  }

  /** Installs an entry, unless it may not be trusted or something changed since `epoch`. */
  install(key: string, entry: Entry, epoch: number): void {
    const { coherence, runtime, settings, held } = this.#parts;
    if (this.#bytesMax === 0 || !coherence.mayKeep() || coherence.epoch(key) !== epoch) return;
    if (entry.freshUntilMs <= entry.loadedAtMs || held.current(entry.tags) !== true) return;
    const offsetMs = this.#clock.monotonicNow() - runtime.clock.now();
    const beta = entry.text === null ? 0 : settings.earlyRefreshBeta;
    const freshUntilMs = entry.freshUntilMs + offsetMs;
    const lookup = new Lookup("memory", entry.text, entry.freshUntilMs, false);
    const tags = held.carry(entry.tags);
    this.#entries.set(key, {
      entry: { ...entry, tags },
      tags,
      answer: Promise.resolve(lookup),
      lookup,
      refreshAtMs: freshUntilMs - earlyRefreshGapMs(entry.costMs, beta, runtime.random()),
      freshUntilMs,
      staleUntilMs: entry.staleUntilMs + offsetMs,
      tagEpoch: held.epoch,
    }, { size: this.#sizeOf(key, entry) });
    if (this.#entries.peek(key)?.lookup !== lookup) held.uncarry(tags);
    while (this.bytes > this.#bytesMax && this.#entries.size > 0) this.#entries.pop();
  }

  /** Answers the entry of a key until the end of its grace, its times corrected by the monotonic clock. */
  stored(key: string): Stored | null {
    const found = this.#entries.get(key);
    const { clock } = this.#parts.runtime;
    const nowMs = clock.monotonicNow();
    if (found === undefined || nowMs >= found.staleUntilMs) return null;
    const { entry, freshUntilMs, staleUntilMs } = found;
    const offsetMs = clock.now() - nowMs;
    return {
      entry: {
        ...entry,
        freshUntilMs: freshUntilMs + offsetMs,
        staleUntilMs: staleUntilMs + offsetMs,
      },
      mark: entryMark(entry),
      bytes: this.#sizeOf(key, entry),
    };
  }

  /** Ends the fresh life of an entry, which keeps its grace. */
  expire(key: string): void {
    const found = this.#entries.peek(key);
    const { coherence, runtime } = this.#parts;
    const nowMs = runtime.clock.monotonicNow();
    coherence.bump(key);
    if (found === undefined || nowMs >= found.freshUntilMs) return;
    const endMs = nowMs - 1; // the coarse clock may be this late
    found.staleUntilMs += endMs - found.freshUntilMs;
    found.freshUntilMs = endMs;
    found.refreshAtMs = endMs;
  }

  /** The entry of a key and the bytes counted for it, without marking it as recently used. */
  peek(key: string): { readonly entry: Entry; readonly bytes: number } | undefined {
    const found = this.#entries.peek(key);
    return found && { entry: found.entry, bytes: this.#sizeOf(key, found.entry) };
  }

  /** Drops keys, also for running reads. */
  drop(keys: readonly string[]): void {
    for (const key of keys) {
      this.#parts.coherence.bump(key);
      this.#entries.delete(key);
    }
  }

  /** Drops the entries for which `keeps` answers false. */
  dropUnless(keeps: (entry: Entry) => boolean): void {
    for (const [key, { entry }] of [...this.#entries.entries()]) {
      if (!keeps(entry)) this.drop([key]);
    }
  }

  /** Drops everything, also for running reads. */
  dropAll(): void {
    this.#parts.coherence.bumpAll();
    this.#entries.clear();
  }

  #tagsAreCurrent(found: MemoryEntry): boolean {
    if (!found.tags.every(({ isCurrent }) => isCurrent)) return false;
    found.tagEpoch = this.#parts.held.epoch;
    return true;
  }

  #sizeOf(key: string, { text, tags }: Entry): number {
    return ENTRY_OVERHEAD_BYTES + key.length + textBytes(text) + TAG_REFERENCE_BYTES * tags.length;
  }
}

/** V8 stores a string as one byte a character only if all characters fit Latin-1. */
function textBytes(text: string | null): number {
  if (text === null) return 0;
  // deno-lint-ignore no-control-regex -- the range is Latin-1 itself
  return /^[\u0000-\u00ff]*$/.test(text) ? text.length : 2 * text.length;
}
