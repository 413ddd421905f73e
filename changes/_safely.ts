import type { Clock } from "@lookaside/cache";

/** Time for which a reported error is not reported again. */
const REPEAT_MS = 60_000;
/** Limit of errors that are reported within that time. */
const ERRORS_MAX = 100;
const TEXT_LENGTH_MAX = 1_000;

/**
 * Makes a handler of the program's own harmless: whatever it throws or rejects with would otherwise end the relay,
 * or the process.
 */
export function safely<Event>(
  handler: (event: Event) => unknown,
  onFailure: (error: unknown) => void = () => undefined,
): (event: Event) => void {
  return (event) => {
    try {
      const outcome = handler(event);
      if (outcome instanceof Promise) outcome.catch(onFailure);
    } catch (error) {
      onFailure(error);
    }
  };
}

/**
 * Reports the same error once a minute. A relay that fails is woken by each notification, and fails again: a database
 * that takes no writes of this role would be reported as often as others write to it.
 */
export function seldom(
  clock: Pick<Clock, "monotonicNow">,
  report: (error: unknown) => unknown,
): (error: unknown) => unknown {
  const reported = new Map<string, number>();
  return (error) => {
    const text = String(error).slice(0, TEXT_LENGTH_MAX);
    const nowMs = clock.monotonicNow();
    for (const [each, atMs] of reported) {
      if (nowMs - atMs < REPEAT_MS) break; // those behind it are newer
      reported.delete(each);
    }
    if (reported.has(text) || reported.size >= ERRORS_MAX) return;
    reported.set(text, nowMs);
    return report(error);
  };
}
