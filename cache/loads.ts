import { Bulkhead } from "./bulkhead.ts";
import { deferred } from "./deferred.ts";
import { LoadTimeoutError } from "./errors.ts";
import type { Lookup } from "./lookup.ts";
import type { Runtime } from "./runtime.ts";

/**
 * What a loader is given.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 *
 * await using cache = new Cache({ loadTimeoutMs: 20 });
 * const load = ({ signal }: { signal: AbortSignal }) =>
 *   new Promise<string>((_, reject) => {
 *     signal.addEventListener("abort", () => reject(signal.reason)); // cancel the query here
 *   });
 * await assert.rejects(cache.getOrLoad("slow", load), { name: "LoadTimeoutError" });
 * ```
 */
export interface LoadContext {
  /** Aborted when the load's deadline passes or the cache closes. */
  readonly signal: AbortSignal;
}

/** A load under way that later readers may join, if Redis says that its lease stands. */
export interface LoadFlight {
  /** The lease it runs under. */
  readonly lease: string;
  /** What its callers get. */
  readonly outcome: Promise<Lookup>;
}

/** Options of {@linkcode Loads}. */
export interface LoadsOptions {
  /** How long a load may take, waiting included. Shorter than the lease. */
  readonly loadTimeoutMs: number;
  /** Loads that run at once. */
  readonly loadsMax: number;
  /** Loads that wait behind them. */
  readonly loadsWaitingMax: number;
}

/** The loads under way in this process: bounded in number and time, and found by key. */
export class Loads {
  readonly #runtime: Runtime;
  readonly #options: LoadsOptions;
  readonly #bulkhead: Bulkhead;
  readonly #flights = new Map<string, LoadFlight>();
  readonly #controllers = new Set<AbortController>();
  #closedBy: Error | undefined;

  constructor(runtime: Runtime, options: LoadsOptions) {
    this.#runtime = runtime;
    this.#options = options;
    this.#bulkhead = new Bulkhead(options.loadsMax, options.loadsWaitingMax);
  }

  /** The load of a key that may be joined, under a lease that its caller has to compare. */
  flight(key: string): LoadFlight | undefined {
    return this.#flights.get(key);
  }

  /** Makes a load joinable until {@linkcode land} or {@linkcode detach}. */
  launch(key: string, flight: LoadFlight): void {
    this.#flights.set(key, flight);
  }

  /** Ends a flight, unless another has taken its place. */
  land(key: string, flight: LoadFlight): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
  }

  /** Lets nobody else join the load of a key. Its callers still get their answer. */
  detach(key: string): void {
    this.#flights.delete(key);
  }

  /** Detaches every load. */
  detachAll(): void {
    this.#flights.clear();
  }

  /**
   * Runs `load` when there is room for it, within its deadline, which counts from now.
   *
   * @throws {LoadRejectedError} Too many are running and waiting.
   * @throws {LoadTimeoutError} The deadline passed. The loader keeps its place until it settles.
   * @throws The reason given to {@linkcode close}.
   */
  async run<T>(load: (context: LoadContext) => Promise<T>): Promise<T> {
    if (this.#closedBy !== undefined) throw this.#closedBy;
    const controller = new AbortController();
    const { signal } = controller;
    const timeoutMs = this.#options.loadTimeoutMs;
    const timer = this.#runtime.clock.after(timeoutMs, () => {
      controller.abort(new LoadTimeoutError(`Cannot load: not done after ${timeoutMs} ms`));
    });
    this.#controllers.add(controller);
    const aborted = deferred<never>();
    const onAbort = () => aborted.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await Promise.race([
        this.#bulkhead.run(signal, async () => await load({ signal })),
        aborted.promise,
      ]);
    } finally {
      timer.cancel();
      signal.removeEventListener("abort", onAbort);
      this.#controllers.delete(controller);
    }
  }

  /** Aborts every load with `reason`, and starts none from here on. */
  close(reason: Error): void {
    this.#closedBy = reason;
    for (const controller of this.#controllers) controller.abort(reason);
  }
}
