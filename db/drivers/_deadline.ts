import type { Clock } from "../runtime.ts";

/** The server did not answer in time. Drivers turn it into a `DatabaseUnavailableError`. */
export class DeadlineError extends Error {
  /** Names the class in logs. */
  override readonly name = "DeadlineError";
}

/**
 * Answers the result of `work` within `limitMs`. A later result or rejection is dropped.
 *
 * `statement_timeout` limits a statement on a server that works. This limits the wait for a server that accepted
 * the connection and then hung, or cannot be reached any more.
 *
 * @throws {DeadlineError} `work` did not settle in time.
 */
export function withDeadline<T>(
  work: PromiseLike<T>,
  limitMs: number,
  clock: Clock,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = clock.after(limitMs, () => {
      reject(new DeadlineError(`Cannot wait longer: no answer within ${limitMs} ms`));
    });
    work.then((value) => {
      timer.cancel();
      resolve(value);
    }, (error) => {
      timer.cancel();
      reject(error);
    });
  });
}
