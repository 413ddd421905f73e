import { fnv1a } from "./hash.ts";
import { type Clock, CoarseClock } from "./runtime.ts";

/** Stripes of the epoch table. Two keys that share one only cost each other an installation. */
const STRIPES = 1 << 14;
/** Room for the epochs of one generation below the next, in a number that stays exact. */
const GENERATION_STEP = 2 ** 32;

/**
 * Four judgements that every part of an engine shares: how long memory may be trusted, whether the store
 * may be read, whether it is the store still, and whether a key changed while it was being read.
 *
 * Trust in memory is a lease on time. A sign of life of the invalidation feed that was asked for at t0
 * proves that everything announced before t0 has been applied here, so memory is good until t0 +
 * `memoryLeaseMs`, and not a moment longer however the feed fails.
 *
 * The store may not be read while it is owed an invalidation, or may have lost some and has not been
 * caught up with: it may answer what was invalidated. An answer counts only if {@linkcode storeTrust} is
 * the same before it was asked for and after.
 *
 * A store whose server may be replaced without a word is the store on a lease as well: while it is not
 * known to stand, nothing is read from it, and nothing that it takes counts as taken.
 *
 * The epoch of a key is the install guard. It ends this race:
 *
 * ```text
 * 1. reader: GET key is sent, and reads the old value
 * 2. feed:   key changed            -> nothing in memory yet, nothing to drop
 * 3. reader: installs the old value -> stale until the TTL
 * ```
 *
 * The reader notes the epoch before step 1 and installs only if it is the same at step 3.
 */
export class Coherence {
  readonly #clock: CoarseClock;
  readonly #exact: Clock;
  readonly #memoryLeaseMs: number;
  readonly #epochs = new Uint32Array(STRIPES);
  #generation = 0;
  /** Until when the feed, and the store itself, may be trusted: memory may be until the earlier of both. */
  #feedUntilMs: number;
  #storeUntilMs = Infinity;
  #trustedUntilMs: number;
  #open = false;
  #standsIn = false;
  #aliveAtMs = -Infinity;
  #owed = false;
  #behind = false;
  #doubts = 0;
  #unproved: { readonly sinceMs: number; readonly resolve: () => void }[] = [];

  /** @param memoryLeaseMs `Infinity` where nobody else writes: memory is the store. */
  constructor(clock: Clock, memoryLeaseMs: number) {
    this.#clock = new CoarseClock(clock);
    this.#exact = clock;
    this.#memoryLeaseMs = memoryLeaseMs;
    this.#feedUntilMs = memoryLeaseMs === Infinity ? Infinity : -Infinity;
    this.#trustedUntilMs = this.#feedUntilMs;
  }

  /** The monotonic time until which memory may be trusted. */
  get trustedUntilMs(): number {
    return this.#trustedUntilMs;
  }

  /** Whether memory may be trusted now. */
  trusted(): boolean {
    return this.#clock.monotonicNow() < this.#trustedUntilMs;
  }

  /** Whether an answer that is asked for now may be kept: memory is trusted, and the store is owed nothing. */
  mayKeep(): boolean {
    return (this.#standsIn || !this.#owed) && this.trusted();
  }

  /**
   * A number that has changed if the store was in doubt since it was asked for last; `undefined` while the
   * store must not be read.
   */
  storeTrust(): number | undefined {
    const mayBeRead = this.#standsIn ? this.trusted() : this.storeIsRight();
    return mayBeRead ? this.#doubts : undefined;
  }

  /** Whether the servers are owed nothing, have been caught up with, and are known to stand. */
  storeIsRight(): boolean {
    return !this.#owed && !this.#behind && this.stands();
  }

  /** Whether the feed is open. */
  get isOpen(): boolean {
    return this.#open;
  }

  /** For how long no feed of the store is known to have told all; `Infinity`: none ever did. */
  silentMs(): number {
    return this.#exact.monotonicNow() - Math.min(this.#aliveAtMs, this.#storeUntilMs);
  }

  /** Memory stands in for the servers from now on, or no longer: nothing is believed that was asked before. */
  standIn(standsIn: boolean): void {
    this.#standsIn = standsIn;
    this.#open = standsIn;
    this.#doubts++;
    this.#generation++;
    this.#trust(-Infinity);
  }

  /** Whether the store is known not to have been replaced. */
  stands(): boolean {
    return this.#storeUntilMs === Infinity || this.#exact.monotonicNow() < this.#storeUntilMs;
  }

  /** The store is known to stand until then (monotonic). */
  stand(untilMs: number): void {
    this.#storeUntilMs = untilMs;
    this.#trust(this.#feedUntilMs);
  }

  /** The store is owed an invalidation: what it answers, now or to a command under way, is neither believed nor kept. */
  owe(): void {
    this.#owed = true;
    this.#doubts++;
  }

  /** The store has taken what it was owed. What is being read is not kept. */
  settle(): void {
    this.#owed = false;
    this.#generation++;
  }

  /** The store may have lost invalidations: what it answers, now or to a command under way, is not believed. */
  doubt(): void {
    this.#behind = true;
    this.#doubts++;
  }

  /** The store has been caught up with. */
  believe(): void {
    this.#behind = false;
  }

  /** The epoch of a key or tag. Equal before and after a read: no change in between is known here. */
  epoch(name: string): number {
    return this.#generation * GENERATION_STEP + (this.#epochs[stripe(name)] ?? 0);
  }

  /** Notes that a key or tag changed. */
  bump(name: string): void {
    const at = stripe(name);
    this.#epochs[at] = ((this.#epochs[at] ?? 0) + 1) >>> 0;
  }

  /** Notes that every key may have changed. */
  bumpAll(): void {
    this.#generation++;
  }

  /** The feed began. Trust waits for its first sign of life. */
  open(): void {
    this.#open = true;
    this.#generation++;
  }

  /** The feed is lost: nothing may be trusted, and nothing being read may be installed. */
  close(): void {
    this.#open = false;
    this.#generation++;
    this.#trust(-Infinity);
    this.#proves(Infinity);
  }

  /** The feed was alive for a question asked at `sentAtMs`. */
  alive(sentAtMs: number): void {
    this.#aliveAtMs = sentAtMs;
    if (this.#open) this.#trust(sentAtMs + this.#memoryLeaseMs);
    this.#proves(sentAtMs);
  }

  /**
   * Resolves once all that was announced until now has been applied here: with the first sign of life that
   * is asked for from now on, or when memory is no longer trusted.
   */
  proved(): Promise<void> {
    if (!this.#open) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#unproved.push({ sinceMs: this.#exact.monotonicNow(), resolve });
    return promise;
  }

  #trust(untilMs: number): void {
    this.#feedUntilMs = untilMs;
    this.#trustedUntilMs = this.#standsIn ? untilMs : Math.min(untilMs, this.#storeUntilMs);
  }

  #proves(untilMs: number): void {
    this.#unproved = this.#unproved.filter(({ sinceMs, resolve }) => {
      if (sinceMs <= untilMs) resolve();
      return sinceMs > untilMs;
    });
  }
}

function stripe(name: string): number {
  const hash = fnv1a(name);
  return (hash ^ (hash >>> 16)) & (STRIPES - 1);
}
