/**
 * Delays of this process's event loop.
 *
 * @module
 */
import type { Clock, Timer } from "../cache/mod.ts";
import type { Durations } from "../cache/prometheus/mod.ts";

const EVERY_MS = 100;
/** The number of samples in a minute. */
const SAMPLES_MAX = 600;

/**
 * Records how late timers fire. Begins with the first call, because only repeated callers need it.
 * `monitorEventLoopDelay` of `node:perf_hooks` does not notice a blocked loop in Deno 2.9.6.
 */
export class EventLoopLag {
  readonly #clock: Clock;
  readonly #stopping: AbortSignal;
  readonly #lagsMs: number[] = [];
  #count = 0;
  #timer: Timer | undefined;

  /** @param stopping Ends it. */
  constructor(clock: Clock, stopping: AbortSignal) {
    this.#clock = clock;
    this.#stopping = stopping;
  }

  /** Quantiles of the lags of the last minute. Zeroes if there are none. */
  stats(): Durations {
    if (this.#timer === undefined && !this.#stopping.aborted) {
      this.#stopping.addEventListener("abort", () => this.#timer?.cancel(), { once: true });
      this.#next();
    }
    const sorted = this.#lagsMs.toSorted((a, b) => a - b);
    const rank = (share: number) => percentile(sorted, share);
    return { p50Ms: rank(0.5), p99Ms: rank(0.99), maxMs: rank(1) };
  }

  #next(): void {
    const dueMs = this.#clock.monotonicNow() + EVERY_MS;
    this.#timer = this.#clock.after(EVERY_MS, () => {
      this.#lagsMs[this.#count++ % SAMPLES_MAX] = Math.max(0, this.#clock.monotonicNow() - dueMs);
      this.#next();
    });
  }
}

/** The percentile by nearest rank. 0 if there is no value. */
function percentile(sorted: ArrayLike<number>, share: number): number {
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
}
