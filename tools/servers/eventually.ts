import { setTimeout as delay } from "node:timers/promises";

export interface EventuallyOptions {
  /** Time after which to give up. Default 10,000. */
  readonly deadlineMs?: number;
  /** Delay between attempts. Default 20. */
  readonly everyMs?: number;
  /** Ends the attempts before the deadline. */
  readonly signal?: AbortSignal;
}

/**
 * Calls `check` until it no longer throws, and answers its result.
 *
 * @throws The last error of `check`, once the deadline has passed.
 */
export async function eventually<T>(
  check: () => T | Promise<T>,
  options: EventuallyOptions = {},
): Promise<T> {
  const { deadlineMs = 10_000, everyMs = 20, signal } = options;
  const endsAtMs = performance.now() + deadlineMs;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() >= endsAtMs || signal?.aborted) throw error;
    }
    await delay(everyMs);
  }
}
