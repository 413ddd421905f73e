/**
 * Samples of a cache: all that a dashboard shows of one moment.
 *
 * @module
 */
import type { Cache } from "../cache.ts";
import { type Changes, type ChangesStats, NO_CHANGES } from "../changes.ts";
import type { Clock } from "../runtime.ts";
import type { CacheStats } from "../stats.ts";
import type { InvalidationLog, LoggedInvalidation } from "./invalidation_log.ts";
import type { Latencies } from "./latencies.ts";

/** The most keys that are shown of those most requested. */
const POPULAR_COUNT = 10;
/** One sample in so many asks Redis and Postgres, unless they have yet to answer the last question. */
const ASK_EVERY = 2;

/** A cache, as far as a sample tells of it. */
export interface SampledCache extends Pick<Cache, "stats" | "popular"> {
  /** The changes that it is told of. */
  readonly changes: Pick<Changes, "stats">;
}

/** Parts of a {@linkcode Sampler}. */
interface SamplerParts {
  readonly latencies?: Latencies;
  readonly invalidations?: InvalidationLog;
  readonly clock: Clock;
}

/** All that a dashboard shows of one moment. Counts are since the start of the process. */
export interface Sample {
  /** Wall time in milliseconds. */
  readonly atMs: number;
  /** The counters. */
  readonly cache: CacheStats;
  /** Durations of the reads since the last sample, by source; `null` where nobody notes any. */
  readonly latencies: ReturnType<Latencies["take"]> | null;
  /** The changes that the cache is told of; `null` while they cannot be asked, absent without. */
  readonly changes?: ChangesStats | null;
  /** The most requested keys. */
  readonly popular: readonly string[];
  /** The last invalidations, the latest first; `null` where nobody notes any. */
  readonly invalidations: readonly LoggedInvalidation[] | null;
}

/**
 * Takes samples. What this process knows is told as it is now; what Redis and Postgres have to be asked
 * is told as they last answered, so that neither can hold up a sample.
 */
export class Sampler {
  readonly #cache: SampledCache;
  readonly #parts: SamplerParts;
  #changes: ChangesStats | null = null;
  #popular: readonly string[] = [];
  #taken = 0;
  #asking = false;

  /** Asks nobody yet. */
  constructor(cache: SampledCache, parts: SamplerParts) {
    this.#cache = cache;
    this.#parts = parts;
  }

  /** Tells what there is to show now. */
  take(): Sample {
    const { latencies, invalidations, clock } = this.#parts;
    if (this.#taken++ % ASK_EVERY === 0 && !this.#asking) void this.#ask();
    return {
      atMs: clock.now(),
      cache: this.#cache.stats(),
      latencies: latencies?.take() ?? null,
      ...(this.#cache.changes === NO_CHANGES ? {} : { changes: this.#changes }),
      popular: this.#popular,
      invalidations: invalidations?.recent() ?? null,
    };
  }

  /** Never rejects. */
  async #ask(): Promise<void> {
    const { changes } = this.#cache;
    this.#asking = true;
    const [stats, popular] = await Promise.allSettled([
      changes.stats(),
      this.#cache.popular(POPULAR_COUNT),
    ]);
    // Whoever could not be asked is reported where it is used.
    this.#changes = stats.status === "fulfilled" ? stats.value : null;
    this.#popular = popular.status === "fulfilled" ? popular.value : [];
    this.#asking = false;
  }
}
