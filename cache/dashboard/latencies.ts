/**
 * Durations of reads, by the tier that answered.
 *
 * @module
 */
import type { Source } from "../lookup.ts";

/** The answers of each source that are looked at: the last ones before a look. A power of two. */
const WINDOW = 1_024;

/** Durations of the answers of one source since the last look. Zeroes without one. */
export interface LatencyWindow {
  /** Number of answers. */
  readonly count: number;
  /** The median of the last of them, in milliseconds. */
  readonly p50Ms: number;
  /** Their 99th percentile, in milliseconds. */
  readonly p99Ms: number;
}

/**
 * Durations of reads, for the chart of a dashboard. Noting one is a store into a ring, because every memory hit does
 * it; sorting is left to whoever looks.
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

  /** Notes the duration of a read. */
  note(source: Source, durationMs: number): void {
    this.#rings[source].note(durationMs);
  }

  /** Takes what was noted since the last call, by source. */
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

/** The value of nearest rank. 0 where there is none. */
function percentile(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
}
