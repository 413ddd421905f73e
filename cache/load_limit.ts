import { AsyncLocalStorage } from "node:async_hooks";
import { LoadRejectedError, LoadTimeoutError } from "./errors.ts";
import type { Clock, Timer } from "./runtime.ts";

/** The context that a loader is called with. */
export interface LoadContext {
  /** Aborted when the load's deadline passes or the cache closes. */
  readonly signal: AbortSignal;
  /**
   * The value that is to be replaced, as JSON brought it back, where it may still be answered: a loader that
   * refreshes may ask only for what is newer. `undefined` without one.
   */
  readonly stale?: unknown;
}

/** Options of a {@linkcode LoadLimit}. */
export interface LoadLimitOptions {
  /** How long a load may take, waiting included. Shorter than the lease. */
  readonly loadTimeoutMs: number;
  /** Loads that run at once. */
  readonly loadsMax: number;
  /** Loads that wait behind them. */
  readonly loadsWaitingMax: number;
}

/**
 * Bounds the loads of a cache in number and time, so that a cold or lost cache cannot send everything it
 * used to absorb to the database. First come, first served.
 *
 * A load that reads another key through the same cache must not keep that key's load waiting for a place:
 *
 * ```text
 * 1. as many loads as may run read another key each
 * 2. the loads of those keys wait for a place, which no load gives back before it has its other key
 * ```
 *
 * So a load gives its place up for as long as it waits for a read, and has the first place that is free
 * when the read is done. The number of loads that work never exceeds the bound.
 */
export class LoadLimit {
  readonly #clock: Clock;
  readonly #options: LoadLimitOptions;
  readonly #context = new AsyncLocalStorage<Place>();
  /** Loads that go on once they have a place again, loads that others wait for, all other loads. */
  readonly #queues: readonly [Admit[], Admit[], Admit[]] = [[], [], []];
  readonly #controllers = new Set<AbortController>();
  readonly #places = new Set<Place>();
  #running = 0;
  #abandoned = 0;
  #closedBy: Error | undefined;

  constructor(clock: Clock, options: LoadLimitOptions) {
    this.#clock = clock;
    this.#options = options;
  }

  /** Loads that run now, without those that wait for a read of theirs. */
  get running(): number {
    return this.#running;
  }

  /** Loads so far that had not settled long after their time-out, and lost their place. */
  get abandoned(): number {
    return this.#abandoned;
  }

  /**
   * Runs `load` when there is room for it, within its deadline, which counts from now.
   *
   * @throws {LoadRejectedError} Too many are running and waiting.
   * @throws {LoadTimeoutError} The deadline passed. The loader keeps its place until it settles, for as
   * long again at most.
   * @throws The reason given to {@linkcode close}.
   */
  async run<T>(load: (context: LoadContext) => Promise<T>): Promise<T> {
    if (this.#closedBy !== undefined) throw this.#closedBy;
    const controller = new AbortController();
    const { signal } = controller;
    const { loadTimeoutMs } = this.#options;
    const timer = this.#clock.after(loadTimeoutMs, () => {
      controller.abort(new LoadTimeoutError(`Cannot load: not done after ${loadTimeoutMs} ms`));
    });
    this.#controllers.add(controller);
    const aborted = Promise.withResolvers<never>();
    const onAbort = () => aborted.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await Promise.race([this.#runInPlace(signal, load), aborted.promise]);
    } finally {
      timer.cancel();
      signal.removeEventListener("abort", onAbort);
      this.#controllers.delete(controller);
    }
  }

  /** Settles as `read` does. A load that waits for it gives its place up meanwhile. */
  async whileAway<T>(read: () => Promise<T>): Promise<T> {
    const place = this.#context.getStore();
    if (place === undefined) return await read();
    place.leave();
    try {
      return await read();
    } finally {
      await place.comeBack();
    }
  }

  /** Aborts every load with `reason`, and starts none from here on. */
  close(reason: Error): void {
    this.#closedBy = reason;
    for (const controller of this.#controllers) controller.abort(reason);
    for (const place of this.#places) place.end();
  }

  async #runInPlace<T>(
    signal: AbortSignal,
    load: (context: LoadContext) => Promise<T>,
  ): Promise<T> {
    if (this.#running < this.#options.loadsMax) this.#running++;
    else await this.#wait(signal);
    const place = new Place({
      take: () => this.#takeAgain(),
      giveBack: () => this.#giveBack(),
    });
    this.#places.add(place);
    const onAbort = () => this.#abandonLater(place);
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await this.#context.run(place, () => load({ signal }));
    } finally {
      signal.removeEventListener("abort", onAbort);
      place.end();
      this.#places.delete(place);
    }
  }

  /** A loader that ignores its signal may never settle: its place is given back all the same. */
  #abandonLater(place: Place): void {
    if (this.#closedBy !== undefined) return;
    place.abandonTimer = this.#clock.after(this.#options.loadTimeoutMs, () => {
      this.#abandoned++;
      place.end();
    });
  }

  #wait(signal: AbortSignal): Promise<void> {
    const [, nested, others] = this.#queues;
    const queue = this.#context.getStore() === undefined ? others : nested;
    const waiting = nested.length + others.length;
    if (waiting >= this.#options.loadsWaitingMax) {
      throw new LoadRejectedError(
        `Cannot load: ${this.#running} loads running and ${waiting} waiting`,
      );
    }
    return new Promise((resolve, reject) => {
      const admit = () => {
        signal.removeEventListener("abort", abandon);
        resolve();
      };
      const abandon = () => {
        queue.splice(queue.indexOf(admit), 1);
        reject(signal.reason);
      };
      signal.addEventListener("abort", abandon, { once: true });
      queue.push(admit);
    });
  }

  /** Takes a place for a load that has begun: it waits before all others, and is never refused. */
  #takeAgain(): Promise<void> {
    if (this.#running < this.#options.loadsMax) {
      this.#running++;
      return Promise.resolve();
    }
    return new Promise((resolve) => void this.#queues[0].push(resolve));
  }

  /** Hands a place over to whoever waits for it: `running` stays as it is. */
  #giveBack(): void {
    for (const queue of this.#queues) {
      const admit = queue.shift();
      if (admit !== undefined) return admit();
    }
    this.#running--;
  }
}

type Admit = () => void;

/** The place of a load that has begun: held while it works, given up while it waits for reads of its own. */
class Place {
  readonly #limit: { readonly take: () => Promise<void>; readonly giveBack: () => void };
  #held = true;
  #ended = false;
  #reads = 0;
  abandonTimer: Timer | undefined;

  constructor(limit: { readonly take: () => Promise<void>; readonly giveBack: () => void }) {
    this.#limit = limit;
  }

  /** The load waits for a read. */
  leave(): void {
    this.#reads++;
    this.#release();
  }

  /** A read is done. Resolves when the load may go on. */
  async comeBack(): Promise<void> {
    if (--this.#reads > 0 || this.#ended) return;
    await this.#limit.take();
    this.#held = true;
    if (this.#reads > 0 || this.#ended) this.#release();
  }

  /** The load has settled, or is given up. */
  end(): void {
    this.#ended = true;
    this.abandonTimer?.cancel();
    this.#release();
  }

  #release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#limit.giveBack();
  }
}
