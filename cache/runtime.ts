/**
 * Time and chance, which library code takes from here and never from globals: tests drive both.
 *
 * @module
 */

/** A timer that {@linkcode Clock.after} has set. */
export interface Timer {
  /** Takes the timer back. Does nothing once it has fired. */
  cancel(): void;
}

/** A source of time, which a test may drive. */
export interface Clock {
  /** Wall time in milliseconds since the epoch: for what is stored and compared across processes. */
  now(): number;
  /** Milliseconds from an arbitrary origin that never go back: for intervals within this process. */
  monotonicNow(): number;
  /** Calls `run` once, `delayMs` from now. */
  after(delayMs: number, run: () => void): Timer;
}

/** Time and chance as a cache uses them. */
export interface Runtime {
  /** The source of time. */
  readonly clock: Clock;
  /** A uniform random number in [0, 1). */
  random(): number;
}

/** Delay before the n-th attempt in a row: 50 ms longer each time, at most `msMax`. */
export function retryDelayMs(attempts: number, msMax: number): number {
  return Math.min(attempts * 50, msMax);
}

/** Waits until `work` has settled, at most for `ms`. Rejects as `work` does if that comes first. */
export async function within(clock: Clock, ms: number, work: Promise<unknown>): Promise<void> {
  let timer: Timer | undefined;
  const late = new Promise<void>((resolve) => {
    timer = clock.after(ms, resolve);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    timer?.cancel();
  }
}

/**
 * The clock and the dice of the system.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { systemRuntime } from "@lookaside/cache";
 *
 * assert(systemRuntime.clock.now() > 0);
 * ```
 */
export const systemRuntime: Runtime = {
  clock: {
    now: () => Date.now(),
    monotonicNow: () => performance.now(),
    after(delayMs, run) {
      const id = setTimeout(run, delayMs);
      return { cancel: () => clearTimeout(id) };
    },
  },
  random: () => Math.random(),
};

/**
 * Monotonic time to the millisecond, for the hot path.
 *
 * Reading the monotonic clock costs twice what reading the wall clock does in Deno, and would be half
 * of a memory hit. So it is read once per millisecond of wall time; in between the last reading stands.
 * A time is then at most one millisecond too early, and a step of the wall clock does no harm: any wall
 * time but the last one causes a new reading.
 */
export class CoarseClock {
  readonly #clock: Clock;
  #wallMs = NaN;
  #monotonicMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** As {@linkcode Clock.monotonicNow}, less up to a millisecond. */
  monotonicNow(): number {
    const wallMs = this.#clock.now();
    if (wallMs !== this.#wallMs) {
      this.#wallMs = wallMs;
      this.#monotonicMs = this.#clock.monotonicNow();
    }
    return this.#monotonicMs;
  }
}
