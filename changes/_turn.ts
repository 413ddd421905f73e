/** How long the others leave what woke them to the usual relay at the least. */
const PATIENCE_MS = 50;
/** Up to so much longer, each another time: whoever is first takes over, and the rest find it done. */
const PATIENCE_SPREAD_MS = 50;
/** A row that is open for longer was not left lying by chance. Less than they wait. */
const LATE_MS = 40;
/** When to look again after another feed of the same cache was first. */
const BUSY_POLL_MS = 20;

/**
 * The turn to relay, as one feed of a cache knows it.
 *
 * Every commit wakes every feed, and one is enough. So the feed that relayed last goes at once, and the
 * others look a while later whether it did. If not, whoever comes first takes over, and is the usual
 * relay from then on. While nobody is known to be, everyone is.
 *
 * It decides who goes first; anybody may. Two that both hold themselves for the usual relay, or none, cost
 * an invalidation more or the wait, and no row.
 */
export class Turn {
  /** The name that the others know this feed by. */
  readonly feed: string = crypto.randomUUID();
  readonly #patienceMs = PATIENCE_MS + parseInt(this.feed.slice(0, 6), 16) % PATIENCE_SPREAD_MS;
  #relay: string | null = null;
  #outruns = 0;

  /** Whether this feed goes at once. */
  get isOurs(): boolean {
    return this.#relay === null || this.relayedLast;
  }

  /** Whether this feed is the one that relayed last. Not before it has looked for the first time. */
  get relayedLast(): boolean {
    return this.#relay === this.feed;
  }

  /** Whether it went last time, and another one had noted a look before it could. */
  get outrun(): boolean {
    return this.#outruns > 0;
  }

  /** How long to wait before the next look at what may be another's to relay. */
  get waitMs(): number {
    if (!this.isOurs) return this.#patienceMs;
    return Math.min(BUSY_POLL_MS * 2 ** (this.#outruns - 1), this.#patienceMs);
  }

  /**
   * Whether to leave a row to the usual relay that has been open for so long. Not where it was outrun:
   * the other one may have looked before the row was committed, and not every feed is woken.
   */
  isAnothers(openMs: number): boolean {
    return !this.isOurs && !this.outrun && openMs < LATE_MS;
  }

  /** Notes who relayed last. */
  learn(relay: string | null): void {
    this.#relay = relay;
  }

  /** Notes whether another feed was first. */
  went(outrun: boolean): void {
    this.#outruns = outrun ? this.#outruns + 1 : 0;
  }
}
