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

/** Limit of reported changes of one thing in {@linkcode REPEAT_MS}. */
const CHANGES_MAX = 40;

/** Limits how often it is reported that something changed, for what comes and goes several times a second. */
export class Changes {
  readonly #clock: Pick<Clock, "monotonicNow">;
  readonly #told = new Map<string, { readonly atMs: number; count: number }>();

  /** Begins without any. */
  constructor(clock: Pick<Clock, "monotonicNow">) {
    this.#clock = clock;
  }

  /** Whether to report a change of `thing`; `last`: the next ones are not reported until the minute is over. */
  note(thing: string): "report" | "last" | "suppress" {
    const atMs = this.#clock.monotonicNow();
    let told = this.#told.get(thing);
    if (told === undefined || atMs - told.atMs >= REPEAT_MS) {
      told = { atMs, count: 0 };
      if (this.#told.size >= THINGS_MAX) this.#told.clear();
      this.#told.set(thing, told);
    }
    const count = ++told.count;
    return count < CHANGES_MAX ? "report" : count === CHANGES_MAX ? "last" : "suppress";
  }
}
