/**
 * Time and randomness. Library code takes both from here and never from globals, so that tests can control them.
 *
 * @module
 */

/** A timer that {@linkcode Clock.after} has set. */
export interface Timer {
  /** Cancels the timer. Does nothing once it has fired. */
  cancel(): void;
}

/** A source of time, which a test may control. */
export interface Clock {
  /** Wall time in milliseconds since the epoch: for what is stored and compared across processes. */
  now(): number;
  /** Milliseconds since an arbitrary origin, never decreasing: for intervals within this process. */
  monotonicNow(): number;
  /** Calls `run` once, `delayMs` from now. */
  after(delayMs: number, run: () => void): Timer;
}

/** Time and randomness as a cache uses them. */
export interface Runtime {
  /** The source of time. */
  readonly clock: Clock;
  /** A uniform random number in [0, 1). */
  random(): number;
}

/** The delay before the n-th attempt in a row: 50 ms more each time, at most `msMax`. */
export function retryDelayMs(attempts: number, msMax: number): number {
  return Math.min(attempts * 50, msMax);
}

/** Waits until `work` has settled, but at most `ms`. Rejects if `work` rejects within that time. */
export async function within(clock: Clock, ms: number, work: Promise<unknown>): Promise<void> {
  const late = Promise.withResolvers<void>();
  const timer = clock.after(ms, late.resolve);
  try {
    await Promise.race([work, late.promise]);
  } finally {
    timer.cancel();
  }
}

/** The longest delay of a system timer. With a longer one, it would fire at once. */
export const TIMER_MS_MAX = 2_147_483_647;

/**
 * The clock and the random numbers of the system. A timer fires after 24 days at the latest.
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
      const id = setTimeout(run, Math.min(delayMs, TIMER_MS_MAX));
      return { cancel: () => clearTimeout(id) };
    },
  },
  random: () => Math.random(),
};

/** Resolves when all have. Keeps no outcome, as each of a chain of `Promise.all` keeps those before it. */
export async function completed(work: readonly PromiseLike<unknown>[]): Promise<void> {
  await Promise.all(work);
}

/**
 * Monotonic time to the millisecond, for the hot path.
 *
 * In Deno, reading the monotonic clock costs twice as much as reading the wall clock, and would be half of a
 * memory hit. So it is read once per millisecond of wall time, and the last reading is used in between. A time
 * is then at most one millisecond too early. A step of the wall clock is harmless: any change of wall time
 * causes a new reading.
 */
export class CoarseClock {
  readonly #clock: Clock;
  #wallMs = NaN;
  #monotonicMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** As {@linkcode Clock.monotonicNow}, at most a millisecond earlier. */
  monotonicNow(): number {
    const wallMs = this.#clock.now();
    if (wallMs !== this.#wallMs) {
      this.#wallMs = wallMs;
      this.#monotonicMs = this.#clock.monotonicNow();
    }
    return this.#monotonicMs;
  }
}
