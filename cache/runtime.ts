/**
 * Time and chance, the two things a cache must not take from globals: tests drive both.
 *
 * @module
 */

/**
 * What {@linkcode Clock.after} returns: a timer that can be taken back.
 *
 * @example
 * ```ts
 * import { systemRuntime, type Timer } from "@lookaside/cache";
 *
 * const timer: Timer = systemRuntime.clock.after(60_000, () => {});
 * timer.cancel();
 * ```
 */
export interface Timer {
  /** Takes the timer back. Does nothing once it has fired. */
  cancel(): void;
}

/**
 * A source of time.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache, systemRuntime } from "@lookaside/cache";
 *
 * // A clock that a test moves.
 * let nowMs = 0;
 * const clock = { ...systemRuntime.clock, now: () => nowMs, monotonicNow: () => nowMs };
 * await using cache = new Cache({ runtime: { ...systemRuntime, clock }, graceMs: 0 });
 * await cache.set("a", 1, { ttlMs: 1_000 });
 * nowMs = 2_000;
 * assert.equal(await cache.get("a"), undefined);
 * ```
 */
export interface Clock {
  /** Wall time in milliseconds since the epoch: for what is stored and compared across processes. */
  now(): number;
  /** Milliseconds from an arbitrary origin that never go back: for intervals within this process. */
  monotonicNow(): number;
  /** Calls `run` once, `delayMs` from now. */
  after(delayMs: number, run: () => void): Timer;
}

/**
 * What the cache takes from its surroundings.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache, type Runtime, systemRuntime } from "@lookaside/cache";
 *
 * const withoutChance: Runtime = { ...systemRuntime, random: () => 0.5 };
 * await using cache = new Cache({ runtime: withoutChance });
 * assert.equal(await cache.get("a"), undefined);
 * ```
 */
export interface Runtime {
  /** The source of time. */
  readonly clock: Clock;
  /** A uniform random number in [0, 1). */
  random(): number;
}

/** How long to wait before the n-th attempt in a row: 50 ms longer each time, at most `msMax`. */
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
 * The real clock and the real dice.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { systemRuntime } from "@lookaside/cache";
 *
 * const startedAtMs = systemRuntime.clock.monotonicNow();
 * const elapsedMs = systemRuntime.clock.monotonicNow() - startedAtMs;
 * assert(elapsedMs >= 0);
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
