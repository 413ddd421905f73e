import { fnv1a } from "./hash.ts";
import { type Clock, CoarseClock } from "./runtime.ts";

/** Stripes of the epoch table. Keys that share one can only prevent an installation of each other. */
const STRIPES = 1 << 14;
/** The range of epochs within one generation; the combined number stays exact. */
const GENERATION_STEP = 2 ** 32;

/**
 * Four questions that every part of an engine asks: how long may memory be trusted, may the store be read, is it
 * still the same store, and has a key changed while it was being read?
 *
 * Memory is trusted on a lease. If the invalidation feed answers a question that was sent at t0, every change made
 * before t0 has been announced and applied here. So until t0 + `memoryLeaseMs`, memory lacks no older change, however
 * the feed fails.
 *
 * The store may not be read while an invalidation is pending, or while it may have lost some and has not been caught
 * up with. An answer counts only if {@linkcode storeTrust} is the same before the question and after the answer.
 *
 * A store whose server may be replaced without notice is trusted on a lease as well: while it is not confirmed,
 * nothing is read from it, and none of its acknowledgements counts.
 *
 * The epoch of a key guards installations. It prevents this race:
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
  /** Memory may be trusted until the earlier of two times: that of the feed and that of the store. */
  #feedUntilMs: number;
  #storeUntilMs = Infinity;
  #trustedUntilMs: number;
  #open = false;
  #fallback = false;
  #aliveAtMs = -Infinity;
  #hasPending = false;
  #storeIsBehind = false;
  #trustVersion = 0;
  #unproved: { readonly sinceMs: number; readonly resolve: () => void }[] = [];

  /** @param memoryLeaseMs `Infinity` if memory is the store, so that no other process writes. */
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

  /** True if memory may be trusted now. */
  trusted(): boolean {
    return this.#clock.monotonicNow() < this.#trustedUntilMs;
  }

  /** True if an answer to a question sent now may be kept: memory is trusted, and no invalidation is pending. */
  mayKeep(): boolean {
    return (this.#fallback || !this.#hasPending) && this.trusted();
  }

  /** A number that changes whenever the store comes into doubt; `undefined` while the store must not be read. */
  storeTrust(): number | undefined {
    const mayBeRead = this.#fallback ? this.trusted() : this.storeIsTrusted();
    return mayBeRead ? this.#trustVersion : undefined;
  }

  /** True if no invalidation is pending, and the store is caught up with and confirmed. */
  storeIsTrusted(): boolean {
    return !this.#hasPending && !this.#storeIsBehind && this.isConfirmed();
  }

  /** True if memory will be trusted again by itself: the feed is open, and the store was not replaced. */
  isFollowing(): boolean {
    return this.#open && this.isConfirmed();
  }

  /** Time since the feed was last known to be complete; `Infinity`: it never was. */
  silentMs(): number {
    return this.#exact.monotonicNow() - Math.min(this.#aliveAtMs, this.#storeUntilMs);
  }

  /** Memory stands in for the servers from now on, or no longer: answers to earlier questions are not believed. */
  fallback(active: boolean): void {
    this.#fallback = active;
    this.#open = active;
    this.#trustVersion++;
    this.#generation++;
    this.#trust(-Infinity);
  }

  /** True if the store is known not to have been replaced by now. */
  isConfirmed(): boolean {
    return this.#storeUntilMs === Infinity || this.#exact.monotonicNow() < this.#storeUntilMs;
  }

  /** Time since the store was last confirmed; 0: it is, or a new one never was. */
  unconfirmedMs(): number {
    if (this.#storeUntilMs === -Infinity) return 0;
    return Math.max(0, this.#exact.monotonicNow() - this.#storeUntilMs);
  }

  /** The store is known not to be replaced before this time (monotonic). */
  confirm(untilMs: number): void {
    this.#storeUntilMs = untilMs;
    this.#trust(this.#feedUntilMs);
  }

  /** An invalidation is pending: the store's answers, also to commands sent before, are neither believed nor kept. */
  notePending(): void {
    this.#hasPending = true;
    this.#trustVersion++;
  }

  /** Nothing is pending any more. Values that are being read now are not kept. */
  noteNonePending(): void {
    this.#hasPending = false;
    this.#generation++;
  }

  /** The store may have lost invalidations: its answers, also to commands sent before, are not believed. */
  storeFellBehind(): void {
    this.#storeIsBehind = true;
    this.#trustVersion++;
  }

  /** The store has been caught up with. */
  storeCaughtUp(): void {
    this.#storeIsBehind = false;
  }

  /** The epoch of a key or tag. If it is equal before and after a read, no change in between is known here. */
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

  /** The feed opened. Memory is trusted from its first sign of life. */
  open(): void {
    this.#open = true;
    this.#generation++;
  }

  /** The feed is lost: memory is not trusted, and values that are being read are not installed. */
  close(): void {
    this.#open = false;
    this.#generation++;
    this.#trust(-Infinity);
    this.#proves(Infinity);
  }

  /** The feed answered a question that was sent at `sentAtMs`. */
  alive(sentAtMs: number): void {
    this.#aliveAtMs = sentAtMs;
    if (this.#open) this.#trust(sentAtMs + this.#memoryLeaseMs);
    this.#proves(sentAtMs);
  }

  /**
   * Resolves once everything announced so far has been applied here: when the feed answers a question sent after
   * this call, or when memory is no longer trusted. The fallback hears of changes directly.
   */
  proved(): Promise<void> {
    if (!this.#open || this.#fallback) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#unproved.push({ sinceMs: this.#exact.monotonicNow(), resolve });
    return promise;
  }

  #trust(untilMs: number): void {
    this.#feedUntilMs = untilMs;
    this.#trustedUntilMs = this.#fallback ? untilMs : Math.min(untilMs, this.#storeUntilMs);
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
