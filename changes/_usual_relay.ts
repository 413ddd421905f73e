/** Shortest time that others leave rows to the usual relay after a notification. */
const PATIENCE_MS = 50;
/** Random addition to it, so that the first one takes over and the rest find the rows done. */
const PATIENCE_SPREAD_MS = 50;
/** A row that is open for longer has been missed by the usual relay. Shorter than the others wait. */
const LATE_MS = 40;
/** Delay before the next look after another relay of the same cache was first. */
const BUSY_POLL_MS = 20;

/**
 * Decides which relay of a cache goes first, from the view of one of them.
 *
 * A notification reaches every relay, and one is enough. So the relay that relayed last, the usual one, goes at
 * once, and the others check a while later whether it did. If not, the first of them takes over and becomes the
 * usual relay. While none is known, all go at once.
 *
 * This affects only the order: any relay may apply rows. If two relays, or none, take themselves for the usual
 * one, the cost is a second invalidation or the wait, but no row is lost.
 */
export class UsualRelay {
  /** The id of this relay. */
  readonly id: string = crypto.randomUUID();
  readonly #patienceMs = PATIENCE_MS + parseInt(this.id.slice(0, 6), 16) % PATIENCE_SPREAD_MS;
  #usual: string | null = null;
  #overtaken = 0;

  /** True if this relay goes at once: it is the usual one, or none is known. */
  get isThis(): boolean {
    return this.#usual === null || this.relayedLast;
  }

  /** True if this relay was the last to relay; false before its first look. */
  get relayedLast(): boolean {
    return this.#usual === this.id;
  }

  /** True if another relay noted a look before this one could note its last. */
  get overtaken(): boolean {
    return this.#overtaken > 0;
  }

  /** Delay before the next look, if another may relay the rows. */
  get waitMs(): number {
    if (!this.isThis) return this.#patienceMs;
    return Math.min(BUSY_POLL_MS * 2 ** (this.#overtaken - 1), this.#patienceMs);
  }

  /**
   * True if a row that has been open for this long is left to the usual relay. False after another was first:
   * that one may have looked before the row was committed, and not every relay is notified.
   */
  isLeft(openMs: number): boolean {
    return !this.isThis && !this.overtaken && openMs < LATE_MS;
  }

  /** Notes which relay was the last to relay. */
  note(relay: string | null): void {
    this.#usual = relay;
  }

  /** Notes the end of a look of this relay. */
  noteLook({ overtaken }: { readonly overtaken: boolean }): void {
    this.#overtaken = overtaken ? this.#overtaken + 1 : 0;
  }
}
