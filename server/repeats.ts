/**
 * Repeated events, reported once in a while with a count, so that an outage does not flood the log.
 *
 * @module
 */
import type { Clock } from "../cache/mod.ts";

/** Time for which a reported event is not reported again. */
const REPEAT_MS = 60_000;
/** Limit of remembered events. */
const THINGS_MAX = 200;

/** Remembers recently reported events. */
export class Repeats {
  readonly #clock: Pick<Clock, "monotonicNow">;
  readonly #said = new Map<string, { readonly atMs: number; unsaid: number }>();

  /** Begins without any. */
  constructor(clock: Pick<Clock, "monotonicNow">) {
    this.#clock = clock;
  }

  /**
   * Answers how often `thing` was suppressed since it was last reported; `undefined` if it must not be reported now.
   */
  note(thing: string): number | undefined {
    const atMs = this.#clock.monotonicNow();
    const last = this.#said.get(thing);
    if (last !== undefined && atMs - last.atMs < REPEAT_MS) {
      last.unsaid++;
      return undefined;
    }
    this.#said.delete(thing); // to move it to the end
    if (this.#said.size >= THINGS_MAX) this.#said.delete(this.#said.keys().next().value ?? "");
    this.#said.set(thing, { atMs, unsaid: 0 });
    return last?.unsaid ?? 0;
  }
}
