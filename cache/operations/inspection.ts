import type { Coherence } from "../coherence.ts";
import { decodeEntry, type Entry } from "../entry.ts";
import type { MemoryStore } from "../memory_store.ts";
import type { Runtime } from "../runtime.ts";
import type { Store } from "../store.ts";
import { ROOT_TAG, type Tags } from "../tags.ts";

/**
 * What one tier holds of a key. Durations in milliseconds.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 *
 * await using cache = new Cache();
 * await cache.set("a", 1, { ttlMs: 60_000 });
 * const held = (await cache.inspect("a")).memory;
 * assert(held?.valid && held.freshLeftMs > 0 && held.bytes > 0);
 * ```
 */
export interface HeldEntry {
  /** Whether it is a negative entry. */
  readonly negative: boolean;
  /** What it takes: in memory what it is accounted for, in Redis the stored bytes. */
  readonly bytes: number;
  /** Time since it was loaded. */
  readonly ageMs: number;
  /** What is left of its fresh life; below 0 past it. */
  readonly freshLeftMs: number;
  /** What is left until the end of its grace; below 0 past it. */
  readonly staleLeftMs: number;
  /** The tags that it carries. */
  readonly tags: readonly string[];
  /** Whether no tag has changed since its load, and the tier may be trusted now. */
  readonly valid: boolean;
}

/**
 * What the tiers hold of a key.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 *
 * await using cache = new Cache();
 * assert.deepEqual((await cache.inspect("a")).memory, undefined);
 * ```
 */
export interface Inspection {
  /** Tier 1, of this process. */
  readonly memory: HeldEntry | undefined;
  /** Tier 2. */
  readonly redis: HeldEntry | undefined;
  /** Whether Redis could be asked. */
  readonly redisReached: boolean;
}

/** What {@linkcode inspect} works with. */
export interface InspectionParts {
  readonly runtime: Runtime;
  readonly store: Store | undefined;
  readonly memory: MemoryStore | undefined;
  readonly coherence: Coherence;
  readonly tags: Tags;
  /** `undefined` while Redis must not be read. */
  readonly storeTrust: () => number | undefined;
}

/** What the tiers hold of a key: nothing is counted, loaded, installed or made recently used. */
export async function inspect(key: string, parts: InspectionParts): Promise<Inspection> {
  const { memory, coherence, store, storeTrust } = parts;
  const [held, stored] = [memory?.peek(key), await read(store, key)];
  const describe = async (entry: Entry, bytes: number, trusted: boolean): Promise<HeldEntry> =>
    describeEntry(entry, { bytes, valid: trusted && await isCurrent(entry, parts), parts });
  return {
    memory: held && await describe(held.entry, held.bytes, coherence.trusted()),
    redis: stored?.entry && await describe(stored.entry, stored.bytes, storeTrust() !== undefined),
    redisReached: stored !== undefined,
  };
}

/** What Redis holds. `undefined`: it could not be asked. */
async function read(
  store: Store | undefined,
  key: string,
): Promise<{ readonly entry: Entry | undefined; readonly bytes: number } | undefined> {
  try {
    const bytes = await store?.get(key);
    if (bytes === undefined) return undefined;
    const entry = bytes === null ? "absent" : decodeEntry(bytes);
    return { entry: typeof entry === "string" ? undefined : entry, bytes: bytes?.length ?? 0 };
  } catch (_error) {
    // The store has reported it.
    return undefined;
  }
}

async function isCurrent({ tags: carried }: Entry, { tags }: InspectionParts): Promise<boolean> {
  const current = tags.current(carried);
  if (current !== undefined) return current;
  try {
    return tags.current(carried, await tags.read(carried.map(({ name }) => name))) === true;
  } catch (_error) {
    // The store has reported it. Nobody can tell, so no read would be answered with it.
    return false;
  }
}

function describeEntry(
  entry: Entry,
  { bytes, valid, parts }: {
    readonly bytes: number;
    readonly valid: boolean;
    readonly parts: InspectionParts;
  },
): HeldEntry {
  const nowMs = parts.runtime.clock.now();
  return {
    negative: entry.text === null,
    bytes,
    ageMs: nowMs - entry.loadedAtMs,
    freshLeftMs: entry.freshUntilMs - nowMs,
    staleLeftMs: entry.staleUntilMs - nowMs,
    tags: entry.tags.map(({ name }) => name).filter((name) => name !== ROOT_TAG),
    valid,
  };
}
