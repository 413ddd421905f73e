/**
 * Samples of a cache: everything that a dashboard shows at one moment.
 *
 * @module
 */
import type { Cache } from "../cache.ts";
import { type Changes, type ChangesStats, NO_CHANGES } from "../changes.ts";
import type { Clock } from "../runtime.ts";
import type { CacheStats } from "../stats.ts";
import type { InvalidationLog, LoggedInvalidation } from "./invalidation_log.ts";
import type { Latencies } from "./latencies.ts";

/** Number of most requested keys that are shown. */
const POPULAR_COUNT = 10;
/** Redis and Postgres are asked with every n-th sample, unless an answer is still awaited. */
const ASK_EVERY = 2;

/** The methods of a cache that a sample uses. */
export interface SampledCache extends Pick<Cache, "stats" | "popular"> {
  /** The changes that are reported to it. */
  readonly changes: Pick<Changes, "stats">;
}

/** Parts of a {@linkcode Sampler}. */
interface SamplerParts {
  readonly latencies?: Latencies;
  readonly invalidations?: InvalidationLog;
  readonly clock: Clock;
}

/** Everything that a dashboard shows at one moment. Counts are since the start of the process. */
export interface Sample {
  /** Wall time in milliseconds. */
  readonly atMs: number;
  /** The counters. */
  readonly cache: CacheStats;
  /** Durations of the reads since the last sample, by source; `null` if they are not recorded. */
  readonly latencies: ReturnType<Latencies["take"]> | null;
  /** The changes that are reported to the cache; `null` if unavailable, absent without a source. */
  readonly changes?: ChangesStats | null;
  /** The most requested keys. */
  readonly popular: readonly string[];
  /** The last invalidations, latest first; `null` if they are not recorded. */
  readonly invalidations: readonly LoggedInvalidation[] | null;
}

/**
 * Takes samples. Figures of this process are current; those of Redis and Postgres are from their last answer, so
 * that neither can delay a sample.
 */
export class Sampler {
  readonly #cache: SampledCache;
  readonly #parts: SamplerParts;
  #changes: ChangesStats | null = null;
  #popular: readonly string[] = [];
  #taken = 0;
  #asking = false;

  /** Asks no server before the first sample. */
  constructor(cache: SampledCache, parts: SamplerParts) {
    this.#cache = cache;
    this.#parts = parts;
  }

  /** Takes a sample. */
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
    // The error is reported where the value is used.
    this.#changes = stats.status === "fulfilled" ? stats.value : null;
    this.#popular = popular.status === "fulfilled" ? popular.value : [];
    this.#asking = false;
  }
}
