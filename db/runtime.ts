/**
 * Timers, with which `db/` gives up on a server that does not answer.
 *
 * @module
 */

/** A timer of {@linkcode Clock.after}. */
export interface Timer {
  /** Cancels the timer. Does nothing once it has fired. */
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
