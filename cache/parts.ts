import type { CacheEvent } from "./events.ts";
import type { MemoryParts, MemoryTier } from "./memory_tier.ts";
import type { PendingInvalidations } from "./pending.ts";
import type { TierCounters } from "./stats.ts";
import type { Tags, TagsParts } from "./tags.ts";
import type { Waiters } from "./waiters.ts";

/** The parts that all engines of a cache share. */
export interface CacheParts extends Pick<MemoryParts, "settings" | "runtime" | "counters"> {
  /** Makes a unique nonce. */
  readonly newNonce: () => string;
  readonly emit: (event: CacheEvent) => void;
  /** Keeps a background promise until it settles; the promise must not reject. */
  readonly track: (work: Promise<void>) => void;
}

/** The parts of one engine that its read path, loads and write path use. */
export interface EngineParts extends CacheParts, MemoryParts, TagsParts {
  /** The name of the server in events. */
  readonly server: string;
  readonly memory: MemoryTier;
  /** True if the store may keep an entry with these tags. */
  readonly keeps: (tags: readonly string[]) => boolean;
  /** Counts the answers of the store; not reported if memory is the store. */
  readonly stored: TierCounters;
  readonly tags: Tags;
  readonly pending: PendingInvalidations;
  readonly waiters: Waiters;
}
