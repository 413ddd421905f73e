import type { CacheEvent } from "./events.ts";
import type { LoadLimit } from "./load_limit.ts";
import type { MemoryParts, MemoryTier } from "./memory_tier.ts";
import type { PendingInvalidations } from "./pending.ts";
import type { TierCounters } from "./stats.ts";
import type { Store } from "./store.ts";
import type { Tags } from "./tags.ts";
import type { Waiters } from "./waiters.ts";

/** The parts that all engines of a cache share. */
export interface CacheParts extends Pick<MemoryParts, "settings" | "runtime" | "counters"> {
  /** Bounds the loads of the whole cache. */
  readonly limit: LoadLimit;
  /** Makes a nonce that nobody has used. */
  readonly newNonce: () => string;
  readonly emit: (event: CacheEvent) => void;
  /** Keeps a background promise, which must not reject, until it settles. */
  readonly track: (work: Promise<void>) => void;
}

/** The parts of one engine, as its read path, its loads and its write path work with them. */
export interface EngineParts extends CacheParts, MemoryParts {
  /** The name of the server in events. */
  readonly server: string;
  readonly memory: MemoryTier;
  readonly store: Store;
  /** Whether the store may keep an entry with these tags. */
  readonly keeps: (tags: readonly string[]) => boolean;
  /** Counts what the store answers; not seen by anybody where memory is the store. */
  readonly stored: TierCounters;
  readonly tags: Tags;
  readonly pending: PendingInvalidations;
  readonly waiters: Waiters;
}
