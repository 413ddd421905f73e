/**
 * Durations of reads, by the tier that answered.
 *
 * @module
 */
import type { Source } from "../lookup.ts";

/** Number of latest answers of each source that are kept. A power of two. */
const WINDOW = 1_024;

/** Durations of one source's answers since the last call. Zeroes if there were none. */
export interface LatencyWindow {
  /** Number of answers. */
  readonly count: number;
  /** Their median, in milliseconds. */
  readonly p50Ms: number;
  /** Their 99th percentile, in milliseconds. */
  readonly p99Ms: number;
}

/**
 * Durations of reads, for the chart of a dashboard. Every memory hit records one, so that is only a write into a
 * ring buffer; the sampler sorts.
 *
 * @example
 * ```ts
 * import { Cache } from "@lookaside/cache";
 * import { dashboard, Latencies } from "@lookaside/cache/dashboard";
 *
 * const latencies = new Latencies();
 * await using cache = new Cache({
 *   onLookup: ({ source, durationMs }) => latencies.note(source, durationMs),
 * });
 * dashboard(cache, { open: true, latencies });
 * ```
 */
export class Latencies {
  readonly #rings: Readonly<Record<Source, Ring>> = {
    memory: new Ring(),
    redis: new Ring(),
    load: new Ring(),
  };

  /** Records the duration of a read. */
  note(source: Source, durationMs: number): void {
    this.#rings[source].note(durationMs);
  }

  /** Answers and removes the records since the last call, by source. */
  take(): Readonly<Record<"memory" | "redis" | "database", LatencyWindow>> {
    const { memory, redis, load } = this.#rings;
    return { memory: memory.take(), redis: redis.take(), database: load.take() };
  }
}

class Ring {
  readonly #durationsMs = new Float64Array(WINDOW);
  #count = 0;

  note(durationMs: number): void {
    this.#durationsMs[this.#count++ & (WINDOW - 1)] = durationMs;
  }

  take(): LatencyWindow {
    const count = this.#count;
    this.#count = 0;
    if (count === 0) return { count, p50Ms: 0, p99Ms: 0 };
    const sorted = this.#durationsMs.slice(0, Math.min(count, WINDOW)).sort();
    return { count, p50Ms: percentile(sorted, 0.5), p99Ms: percentile(sorted, 0.99) };
  }
}

/** The percentile by nearest rank. 0 if there is no value. */
function percentile(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
}
