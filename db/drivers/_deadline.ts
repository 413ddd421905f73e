import type { Clock } from "../runtime.ts";

/** The server did not answer in time. Drivers turn it into a `DatabaseUnavailableError`. */
export class DeadlineError extends Error {
  /** Names the class in logs. */
  override readonly name = "DeadlineError";
}

/**
 * Answers what `work` answers, if it does within `limitMs`. A later outcome is dropped, a rejection
 * included: nobody is left to hear it.
 *
 * `statement_timeout` bounds a statement on a server that is alive. This bounds the wait for one that
 * accepted the connection and then hung, or whose network is gone.
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
