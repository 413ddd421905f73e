import { setTimeout as delay } from "node:timers/promises";

/** Bounds of {@linkcode eventually}. */
export interface EventuallyOptions {
  /** How long to go on trying. Default 10,000. */
  readonly deadlineMs?: number;
  /** How long to wait between tries. Default 20. */
  readonly everyMs?: number;
  /** Ends the tries before the deadline. */
  readonly signal?: AbortSignal;
}

/**
 * Calls `check` until it no longer throws, and answers what it answered.
 *
 * @throws What `check` threw last, once the deadline has passed.
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
