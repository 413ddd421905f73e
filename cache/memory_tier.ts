import { CoarseClock } from "./coarse_clock.ts";
import type { Coherence } from "./coherence.ts";
import type { Entry } from "./entry.ts";
import { earlyRefreshGapMs } from "./expiry.ts";
import { Lookup } from "./lookup.ts";
import type { MemoryEntry, MemoryStore } from "./memory_store.ts";
import type { Settings } from "./options.ts";
import type { Runtime } from "./runtime.ts";
import type { Counters } from "./stats.ts";
import type { Tags } from "./tags.ts";

/** What the memory tier works with. */
export interface MemoryTierParts {
  readonly settings: Settings;
  readonly runtime: Runtime;
  /** Without one the tier is empty for ever. */
  readonly memory: MemoryStore | undefined;
  readonly coherence: Coherence;
  readonly tags: Tags;
  readonly counters: Counters;
}

/** Tier 1: what memory holds, as far as it may be believed. */
export class MemoryTier {
  readonly #parts: MemoryTierParts;
  readonly #coarseClock: CoarseClock;

  constructor(parts: MemoryTierParts) {
    this.#parts = parts;
    this.#coarseClock = new CoarseClock(parts.runtime.clock);
  }

  /** A fresh entry in memory that may be trusted and needs no thought. The hot path. */
  hit(key: string): MemoryEntry | undefined {
    const { memory, coherence, tags, counters } = this.#parts;
    if (memory === undefined) return undefined;
    const held = memory.get(key);
    if (held === undefined) return undefined;
    const nowMs = this.#coarseClock.monotonicNow();
    if (nowMs >= held.quietUntilMs || nowMs >= coherence.trustedUntilMs) return undefined;
    if (held.tagEpoch !== tags.epoch && !this.#tagsStand(held)) return undefined;
    counters.memoryHits++;
    if (held.entry.text === null) counters.negativeHits++;
    return held;
  }

  /** An entry in memory that is fresh and trusted, due for its early refresh or not. */
  fresh(key: string): MemoryEntry | undefined {
    const { memory, coherence, runtime, counters } = this.#parts;
    const held = memory?.get(key);
    if (held === undefined) return undefined;
    const nowMs = runtime.clock.monotonicNow();
    if (nowMs >= held.freshUntilMs || nowMs >= coherence.trustedUntilMs) return undefined;
    if (!this.#tagsStand(held)) return undefined;
    counters.memoryHits++;
    return held;
  }

  /** What memory holds within its grace, where memory is the store. */
  stale(key: string): Lookup | undefined {
    const { memory, tags, runtime, counters } = this.#parts;
    const held = memory?.get(key);
    if (held === undefined || tags.current(held.entry.tags) !== true) return undefined;
    if (runtime.clock.monotonicNow() >= held.staleUntilMs) return undefined;
    counters.staleHits++;
    return new Lookup("memory", held.entry.text, held.entry.freshUntilMs, true);
  }

  /** Installs an entry in memory, unless it may not be trusted or something changed since `epoch`. */
  install(key: string, entry: Entry, epoch: number): void {
    const { memory, coherence, runtime, settings, tags } = this.#parts;
    if (memory === undefined || !coherence.mayKeep() || coherence.epoch(key) !== epoch) return;
    if (entry.freshUntilMs <= entry.loadedAtMs || tags.current(entry.tags) !== true) return;
    const beta = entry.text === null ? 0 : settings.earlyRefreshBeta;
    memory.set(key, entry, {
      offsetMs: this.#coarseClock.monotonicNow() - runtime.clock.now(),
      earlyGapMs: earlyRefreshGapMs(entry.costMs, beta, runtime.random()),
      tagEpoch: tags.epoch,
    });
  }

  #tagsStand(held: MemoryEntry): boolean {
    const { tags } = this.#parts;
    if (tags.current(held.entry.tags) !== true) return false;
    held.tagEpoch = tags.epoch;
    return true;
  }
}
