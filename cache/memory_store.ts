import { LRUCache } from "lru-cache";
import type { Entry } from "./entry.ts";
import { Lookup } from "./lookup.ts";

/** What an entry takes besides its text and key, in bytes: measured, see the test of the bound. */
const ENTRY_OVERHEAD_BYTES = 800;

/** An entry in tier 1, with everything a hit needs ready-made. Times are monotonic milliseconds. */
export interface MemoryEntry {
  /** The entry as it was read. */
  readonly entry: Entry;
  /** What a fresh hit answers, the same object each time: a hit allocates nothing. */
  readonly answer: Promise<Lookup>;
  /** The lookup inside `answer`. */
  readonly lookup: Lookup;
  /** Until when a hit needs no thought: the end of the fresh life, or its early refresh. */
  quietUntilMs: number;
  /** The end of the fresh life. */
  readonly freshUntilMs: number;
  /** The end of the grace. */
  readonly staleUntilMs: number;
  /** Until when nobody refreshes it, because a refresh failed. */
  restUntilMs: number;
  /** The tag epoch at which the entry's tags were last seen unchanged. */
  tagEpoch: number;
}

/** Tier 1: recently used entries in this process, bounded by bytes and by number. */
export class MemoryStore {
  readonly #entries: LRUCache<string, MemoryEntry>;
  #evictions = 0;

  /** @param bytesMax The bound in bytes, above 0. */
  constructor(bytesMax: number) {
    this.#entries = new LRUCache({
      max: Math.max(1, Math.ceil(bytesMax / ENTRY_OVERHEAD_BYTES)),
      maxSize: bytesMax,
      dispose: (_entry, _key, reason) => {
        if (reason === "evict") this.#evictions++;
      },
    });
  }

  /** Entries held. */
  get size(): number {
    return this.#entries.size;
  }

  /** Bytes they are accounted for. */
  get bytes(): number {
    return this.#entries.calculatedSize;
  }

  /** Entries dropped for lack of room, so far. */
  get evictions(): number {
    return this.#evictions;
  }

  /** The entry of a key, now the most recently used. Fresh or not: the caller looks. */
  get(key: string): MemoryEntry | undefined {
    return this.#entries.get(key);
  }

  /** The entry of a key and what it is accounted for, without making it recently used. */
  peek(key: string): { readonly entry: Entry; readonly bytes: number } | undefined {
    const held = this.#entries.peek(key);
    return held && { entry: held.entry, bytes: this.#entries.info(key)?.size ?? 0 };
  }

  /**
   * Holds an entry. One larger than the whole bound is not held.
   *
   * @param offsetMs What to add to a wall-clock time to make it monotonic.
   */
  set(key: string, entry: Entry, timing: MemoryTiming): void {
    const lookup = new Lookup("memory", entry.text, entry.freshUntilMs, false);
    const freshUntilMs = entry.freshUntilMs + timing.offsetMs;
    this.#entries.set(key, {
      entry,
      answer: Promise.resolve(lookup),
      lookup,
      quietUntilMs: freshUntilMs - timing.earlyGapMs,
      freshUntilMs,
      staleUntilMs: entry.staleUntilMs + timing.offsetMs,
      restUntilMs: 0,
      tagEpoch: timing.tagEpoch,
    }, { size: ENTRY_OVERHEAD_BYTES + key.length + textBytes(entry.text) });
  }

  /** Drops a key. */
  delete(key: string): void {
    this.#entries.delete(key);
  }

  /** Drops everything. */
  clear(): void {
    this.#entries.clear();
  }
}

/** How {@linkcode MemoryStore.set} places an entry in time. */
export interface MemoryTiming {
  /** What to add to a wall-clock time to make it monotonic. */
  readonly offsetMs: number;
  /** How long before the end of its fresh life a hit should trigger a refresh. */
  readonly earlyGapMs: number;
  /** The tag epoch now. */
  readonly tagEpoch: number;
}

/** V8 keeps a string in one byte a character only while all of them fit Latin-1. */
function textBytes(text: string | null): number {
  if (text === null) return 0;
  // deno-lint-ignore no-control-regex -- the range is Latin-1 itself
  return /^[\u0000-\u00ff]*$/.test(text) ? text.length : 2 * text.length;
}
