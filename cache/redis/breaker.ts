import type { Clock } from "../runtime.ts";
import type { CacheStats } from "../stats.ts";

/** The state of a {@linkcode Breaker}. */
export type BreakerState = CacheStats["breaker"];

/** Consecutive failures after which a breaker opens. */
const FAILURES_MAX = 5;
/** Time for which it stays open before it admits one probe. */
const OPEN_MS = 250;

/** Thrown instead of making a call while the breaker is open. */
export class BreakerOpenError extends Error {
  override readonly name = "BreakerOpenError";
}

/**
 * A circuit breaker: after consecutive failures it refuses calls at once, then admits one probe, whose outcome
 * closes it or opens it again. (Nygard, "Release It!", 2007.)
 *
 * So a server that hangs costs one time-out, not one per request.
 */
export class Breaker {
  readonly #clock: Clock;
  readonly #onChange: (state: BreakerState) => void;
  #state: BreakerState = "closed";
  #failures = 0;
  #openedAtMs = 0;

  /** @param onChange Called on every change of state. */
  constructor(clock: Clock, onChange: (state: BreakerState) => void) {
    this.#clock = clock;
    this.#onChange = onChange;
  }

  /** The current state. An open breaker stays `open` after its time until the next call probes. */
  get state(): BreakerState {
    return this.#state;
  }

  /**
   * True if an open breaker admits a call now. The first caller after the open time gets `true` and is the probe;
   * until it reports, all others get `false`.
   */
  admit(): boolean {
    const openMs = this.#clock.monotonicNow() - this.#openedAtMs;
    if (this.#state !== "open" || openMs < OPEN_MS) return false;
    this.#change("half-open");
    return true;
  }

  /** Reports that an admitted call succeeded. */
  succeed(): void {
    this.#failures = 0;
    // Only the probe closes the breaker. A late answer to an earlier call must not: one slow success would let
    // every waiting call through again.
    if (this.#state === "half-open") this.#change("closed");
  }

  /** Reports that an admitted call failed or timed out. */
  fail(): void {
    this.#failures++;
    if (this.#state === "open") return;
    if (this.#state === "half-open" || this.#failures >= FAILURES_MAX) {
      this.#openedAtMs = this.#clock.monotonicNow();
      this.#change("open");
    }
  }

  #change(state: BreakerState): void {
    this.#state = state;
    this.#onChange(state);
  }
}
