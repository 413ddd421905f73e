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
 * Every commit notifies every relay, and one is enough. So the one that relayed last goes at once, and the
 * others check a while later whether it did. If not, the first of them takes over and becomes the usual relay.
 * While none is known, all go at once.
 *
 * This affects only the order: any relay may apply rows. If two relays, or none, take themselves for the usual
 * one, the cost is a second invalidation or the wait, but no row is lost.
 */
export class Turn {
  /** The id of this relay. */
  readonly id: string = crypto.randomUUID();
  readonly #patienceMs = PATIENCE_MS + parseInt(this.id.slice(0, 6), 16) % PATIENCE_SPREAD_MS;
  #relay: string | null = null;
  #outruns = 0;

  /** True if this relay goes at once. */
  get isOurs(): boolean {
    return this.#relay === null || this.relayedLast;
  }

  /** True if this relay was the last to relay; false before its first look. */
  get relayedLast(): boolean {
    return this.#relay === this.id;
  }

  /** True if it went last time, and another relay noted a look first. */
  get outrun(): boolean {
    return this.#outruns > 0;
  }

  /** Delay before the next look, if another may relay the rows. */
  get waitMs(): number {
    if (!this.isOurs) return this.#patienceMs;
    return Math.min(BUSY_POLL_MS * 2 ** (this.#outruns - 1), this.#patienceMs);
  }

  /**
   * True if a row that has been open for this long is left to the usual relay. False after another was first:
   * that one may have looked before the row was committed, and not every relay is notified.
   */
  isAnothers(openMs: number): boolean {
    return !this.isOurs && !this.outrun && openMs < LATE_MS;
  }

  /** Notes which relay was the last. */
  learn(relay: string | null): void {
    this.#relay = relay;
  }

  /** Notes whether another relay was first. */
  went(outrun: boolean): void {
    this.#outruns = outrun ? this.#outruns + 1 : 0;
  }
}
