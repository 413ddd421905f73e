import type { Runtime } from "../runtime.ts";

/** The state of a {@linkcode Breaker}. */
export type BreakerState = "closed" | "open" | "half-open";

/** Options of a {@linkcode Breaker}. */
export interface BreakerOptions {
  /** Consecutive failures that open it. Default 5. */
  readonly failuresMax?: number;
  /** How long it stays open before it lets one probe through. Default 250. */
  readonly openMs?: number;
  /** Called on every change of state. */
  readonly onChange?: (state: BreakerState) => void;
}

/** Thrown instead of making a call while the breaker is open. */
export class BreakerOpenError extends Error {
  override readonly name = "BreakerOpenError";
}

/**
 * A circuit breaker: after consecutive failures it refuses calls at once, then lets one probe
 * through; the probe's outcome closes it or opens it again. (Nygard, "Release It!", 2007.)
 *
 * A hung server thus costs its time-out once, not once per request.
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

  /** The state now. An open breaker whose time is over stays `open` until the next call probes. */
  get state(): BreakerState {
    return this.#state;
  }

  /**
   * Whether a call may be made now. The first caller after the open time gets `true` and is the
   * probe; until it reports, all others get `false`.
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
    // A late answer to a call from before the breaker opened is good news too, but only the probe
    // closes it: otherwise one slow success would let the whole rush through again.
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
