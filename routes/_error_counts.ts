/**
 * Counts the errors that are reported, which costs answers without an error nothing.
 *
 * @module
 */
import type { ErrorListener } from "./_errors.ts";

/** How many errors were reported, by the status that was answered. */
export class ErrorCounts {
  // From 0, so that a rate over the first error shows it.
  readonly #counts = new Map([[500, 0], [503, 0]]);

  /** The listener that counts an error, and then tells `onError`. */
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
