/**
 * What happens again and again, said once a while and counted: an outage would else bury the log.
 *
 * @module
 */
import type { Clock } from "../cache/mod.ts";

/** How long what was said is not said again. */
const REPEAT_MS = 60_000;
/** How many things are remembered. */
const THINGS_MAX = 200;

/** Remembers what was said lately. */
export class Repeats {
  readonly #clock: Pick<Clock, "monotonicNow">;
  readonly #said = new Map<string, { readonly atMs: number; unsaid: number }>();

  /** Remembers nothing yet. */
  constructor(clock: Pick<Clock, "monotonicNow">) {
    this.#clock = clock;
  }

  /** Answers whether `thing` should be said now, and if so, how often it went unsaid since the last time. */
  note(thing: string): number | undefined {
    const atMs = this.#clock.monotonicNow();
    const last = this.#said.get(thing);
    if (last !== undefined && atMs - last.atMs < REPEAT_MS) {
      last.unsaid++;
      return undefined;
    }
    this.#said.delete(thing); // for it to stand last
    if (this.#said.size >= THINGS_MAX) this.#said.delete(this.#said.keys().next().value ?? "");
    this.#said.set(thing, { atMs, unsaid: 0 });
    return last?.unsaid ?? 0;
  }
}
