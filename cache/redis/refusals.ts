import type { Clock } from "../runtime.ts";

/** Time for which a server must refuse commands before it counts as unusable: a moment is not worth a change. */
const PATIENCE_MS = 1_000;
/** A server that has refused nothing for this long, although it is asked twice a second, refuses nothing any more. */
const GAP_MS = 2_000;

/**
 * Tells whether a server that can be reached refuses commands, again and again: for lack of rights, because it
 * cannot save its data, or has too few replicas.
 */
export class Refusals {
  readonly #clock: Pick<Clock, "monotonicNow">;
  #firstMs = -Infinity;
  #lastMs = -Infinity;

  constructor(clock: Pick<Clock, "monotonicNow">) {
    this.#clock = clock;
  }

  /** Notes that the server has refused a command. */
  note(): void {
    const nowMs = this.#clock.monotonicNow();
    if (nowMs - this.#lastMs > GAP_MS) this.#firstMs = nowMs;
    this.#lastMs = nowMs;
  }

  /** True if it has refused commands for a while, and the last one lately. */
  get last(): boolean {
    return this.#lastMs - this.#firstMs >= PATIENCE_MS &&
      this.#clock.monotonicNow() - this.#lastMs <= GAP_MS;
  }
}
