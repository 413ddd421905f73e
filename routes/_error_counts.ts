/**
 * Counts reported errors, at no cost for other responses.
 *
 * @module
 */
import type { ErrorListener } from "./_errors.ts";

/** The number of reported errors, by status. */
export class ErrorCounts {
  // From 0, so that a rate shows the first error.
  readonly #counts = new Map([[500, 0], [503, 0]]);

  /** Makes a listener that counts an error and then calls `onError`. */
  around(onError: ErrorListener): ErrorListener {
    return (error, context) => {
      this.#counts.set(context.status, (this.#counts.get(context.status) ?? 0) + 1);
      onError(error, context);
    };
  }

  /** The counts so far. */
  byStatus(): ReadonlyMap<number, number> {
    return this.#counts;
  }
}
