/**
 * Time, as far as `db/` needs it: to give up on a server that does not answer.
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
  /** Calls `run` once, `delayMs` from now. */
  after(delayMs: number, run: () => void): Timer;
}

/** The real clock. */
export const systemClock: Clock = {
  after(delayMs, run) {
    const id = setTimeout(run, delayMs);
    return { cancel: () => clearTimeout(id) };
  },
};
