/**
 * What the dashboard shows of one moment.
 *
 * @module
 */
import type { Cache, CacheStats, Clock } from "../cache/mod.ts";
import type { ChangesStats } from "../cache/mod.ts";
import type { Latencies } from "./_latencies.ts";
import type { InvalidationLog, LoggedInvalidation } from "./invalidation_log.ts";

/** How many of the most requested keys are shown. */
const POPULAR_COUNT = 10;
/** One sample in so many asks Redis and Postgres, unless they have yet to answer the last question. */
const ASK_EVERY = 2;

/** What a sample is made of. */
export interface SampleParts {
  /** The cache to tell of. */
  readonly cache: Pick<Cache, "stats" | "popular">;
  /** What the change feed did and has to do. May reject while Postgres is down. */
  readonly changes: { stats(): Promise<ChangesStats> };
  /** How long answers took. */
  readonly latencies: Latencies;
  /** What was invalidated. */
  readonly invalidations: InvalidationLog;
  /** For the time of the sample. */
  readonly clock: Clock;
}

/** What the dashboard shows of one moment. Counts are since the start of the process. */
export interface Sample {
  /** Wall time in milliseconds. */
  readonly atMs: number;
  /** The counters, as `/cache/stats` tells them. */
  readonly cache: CacheStats;
  /** How long the answers since the last sample took, by source. */
  readonly latencies: ReturnType<Latencies["take"]>;
  /** The change feed; `null` while Postgres cannot be asked. */
  readonly changes: ChangesStats | null;
  /** The most requested keys. */
  readonly popular: readonly string[];
  /** The last invalidations, the latest first. */
  readonly invalidations: readonly LoggedInvalidation[];
}

/**
 * Takes samples. What this process knows is told as it is now; what Redis and Postgres have to be asked
 * is told as they last answered, so that neither can hold up a sample.
 */
export class Sampler {
  readonly #parts: SampleParts;
  #changes: ChangesStats | null = null;
  #popular: readonly string[] = [];
  #taken = 0;
  #asking = false;

  /** Asks nobody yet. */
  constructor(parts: SampleParts) {
    this.#parts = parts;
  }

  /** What there is to show now. */
  take(): Sample {
    const { cache, latencies, invalidations, clock } = this.#parts;
    if (this.#taken++ % ASK_EVERY === 0 && !this.#asking) void this.#ask();
    return {
      atMs: clock.now(),
      cache: cache.stats(),
      latencies: latencies.take(),
      changes: this.#changes,
      popular: this.#popular,
      invalidations: invalidations.recent(),
    };
  }

  /** Never rejects. */
  async #ask(): Promise<void> {
    const { cache, changes } = this.#parts;
    this.#asking = true;
    const [stats, popular] = await Promise.allSettled([
      changes.stats(),
      cache.popular(POPULAR_COUNT),
    ]);
    // Whoever could not be asked is reported where it is used.
    this.#changes = stats.status === "fulfilled" ? stats.value : null;
    this.#popular = popular.status === "fulfilled" ? popular.value : [];
    this.#asking = false;
  }
}
