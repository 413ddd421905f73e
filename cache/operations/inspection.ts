import type { Entry } from "../entry.ts";
import type { EngineParts } from "../parts.ts";
import { ROOT_TAG } from "../tags.ts";

/** The entry of one tier under a key. Durations in milliseconds. */
export interface HeldEntry {
  /** True for "does not exist". */
  readonly negative: boolean;
  /** Its size: the bytes counted for it in memory, or those stored in Redis. */
  readonly bytes: number;
  /** Time since it was loaded. */
  readonly ageMs: number;
  /** Time until the end of its fresh life; negative afterwards. */
  readonly freshLeftMs: number;
  /** Time until the end of its grace; negative afterwards. */
  readonly staleLeftMs: number;
  /** Its tags. */
  readonly tags: readonly string[];
  /** True if no tag has changed since its load, and the tier may be trusted now. */
  readonly valid: boolean;
}

/** The entries of the tiers under one key. */
export interface Inspection {
  /** Tier 1, in this process. */
  readonly memory: HeldEntry | undefined;
  /** Tier 2. */
  readonly redis: HeldEntry | undefined;
  /** True if Redis answered. */
  readonly redisReached: boolean;
}

/** Looks at the entries of a key: nothing is counted, loaded, installed or made recently used. */
export async function inspect(key: string, parts: EngineParts): Promise<Inspection> {
  const { memory, coherence, store, held } = parts;
  const describe = async (entry: Entry, bytes: number, trusted: boolean): Promise<HeldEntry> => {
    const nowMs = parts.runtime.clock.now();
    return {
      negative: entry.text === null,
      bytes,
      ageMs: nowMs - entry.loadedAtMs,
      freshLeftMs: entry.freshUntilMs - nowMs,
      staleLeftMs: entry.staleUntilMs - nowMs,
      tags: entry.tags.map(({ name }) => name).filter((name) => name !== ROOT_TAG),
      valid: trusted && (held.current(entry.tags) ?? await isCurrent(entry, parts)),
    };
  };
  const inMemory = memory.peek(key);
  const ofMemory = inMemory && await describe(inMemory.entry, inMemory.bytes, coherence.trusted());
  // The store reports its errors itself.
  const stored = store.source === "memory"
    ? undefined
    : await store.get(key).catch(() => undefined);
  return {
    memory: ofMemory,
    redis: typeof stored?.entry === "object"
      ? await describe(stored.entry, stored.bytes, coherence.storeTrust() !== undefined)
      : undefined,
    redisReached: stored !== undefined,
  };
}

/** Reads the tags. If that fails, the entry counts as invalid, as it does for a read. */
async function isCurrent(entry: Entry, { held, tags }: EngineParts): Promise<boolean> {
  try {
    const versions = await tags.read(entry.tags.map(({ name }) => name));
    return held.current(entry.tags, versions) === true;
  } catch (_error) {
    return false;
  }
}
