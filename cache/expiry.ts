/**
 * How long entries live. Pure: chance comes in as a number.
 *
 * @module
 */

/**
 * Spreads a TTL so that entries filled together do not expire together.
 *
 * @param random Uniform in [0, 1).
 * @returns A TTL in `[ttlMs * (1 - ratio), ttlMs * (1 + ratio))`, at least 1 ms.
 *
 * @example
 * ```ts
 * import { jitteredTtlMs } from "./expiry.ts";
 *
 * console.assert(jitteredTtlMs(1_000, 0.1, 0.5) === 1_000);
 * console.assert(jitteredTtlMs(1_000, 0.1, 0) === 900);
 * ```
 */
export function jitteredTtlMs(ttlMs: number, ratio: number, random: number): number {
  return Math.max(1, Math.round(ttlMs * (1 + ratio * (2 * random - 1))));
}

/**
 * How long before its expiry an entry is refreshed: the exponential gap of XFetch, `-cost * beta *
 * ln(random)`, from Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede
 * Prevention" (VLDB 2015). The dearer the load, the earlier; `beta` 0 turns it off.
 *
 * A reader refreshes when `now + gap >= freshUntil`. Drawn anew for each read of Redis; drawn once
 * for each installation in memory, so that a memory hit costs one comparison.
 *
 * @param random Uniform in [0, 1); 0 counts as the smallest positive number.
 */
export function earlyRefreshGapMs(costMs: number, beta: number, random: number): number {
  return beta === 0 ? 0 : -costMs * beta * Math.log(Math.max(random, Number.MIN_VALUE));
}
