import type { Runtime } from "../runtime.ts";

/** The state of a {@linkcode Breaker}. */
export type BreakerState = "closed" | "open" | "half-open";

/** Options of a {@linkcode Breaker}. */
export interface BreakerOptions {
  /** Consecutive failures after which it opens. Default 5. */
  readonly failuresMax?: number;
  /** Time for which it stays open before it admits one probe. Default 250. */
  readonly openMs?: number;
  /** Called on every change of state. */
  readonly onChange?: (state: BreakerState) => void;
}

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
  readonly #runtime: Runtime;
  readonly #failuresMax: number;
  readonly #openMs: number;
  readonly #onChange: (state: BreakerState) => void;
  #state: BreakerState = "closed";
  #failures = 0;
  #openedAtMs = 0;

  constructor(runtime: Runtime, options: BreakerOptions = {}) {
    this.#runtime = runtime;
    this.#failuresMax = options.failuresMax ?? 5;
    this.#openMs = options.openMs ?? 250;
    this.#onChange = options.onChange ?? (() => {});
  }

  /** The current state. An open breaker stays `open` after its time until the next call probes. */
  get state(): BreakerState {
    return this.#state;
  }

  /**
   * True if a call may be made now. The first caller after the open time gets `true` and is the probe; until it
   * reports, all others get `false`.
   */
  admit(): boolean {
    if (this.#state === "closed") return true;
    if (this.#state === "half-open") return false;
    if (this.#runtime.clock.monotonicNow() - this.#openedAtMs < this.#openMs) return false;
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
    if (this.#state === "half-open" || this.#failures >= this.#failuresMax) {
      this.#openedAtMs = this.#runtime.clock.monotonicNow();
      this.#change("open");
    }
  }

  #change(state: BreakerState): void {
    this.#state = state;
    this.#onChange(state);
  }
}
