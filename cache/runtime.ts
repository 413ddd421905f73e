/**
 * Time and chance, the two things a cache must not take from globals: tests drive both.
 *
 * @module
 */

/** What {@linkcode Clock.after} returns: a timer that can be taken back. */
export interface Timer {
  /** Takes the timer back. Does nothing once it has fired. */
  cancel(): void;
}

/** A source of time. */
export interface Clock {
  /** Wall time in milliseconds since the epoch: for what is stored and compared across processes. */
  now(): number;
  /** Milliseconds from an arbitrary origin that never go back: for intervals within this process. */
  monotonicNow(): number;
  /** Calls `run` once, `delayMs` from now. */
  after(delayMs: number, run: () => void): Timer;
}

/** What the cache takes from its surroundings. */
export interface Runtime {
  /** The source of time. */
  readonly clock: Clock;
  /** A uniform random number in [0, 1). */
  random(): number;
}

/**
 * The real clock and the real dice.
 *
 * @example
 * ```ts
 * import { systemRuntime } from "./runtime.ts";
 *
 * const startedAtMs = systemRuntime.clock.monotonicNow();
 * const elapsedMs = systemRuntime.clock.monotonicNow() - startedAtMs;
 * console.assert(elapsedMs >= 0);
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
