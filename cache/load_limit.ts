import { AsyncLocalStorage } from "node:async_hooks";
import { LoadRejectedError, LoadTimeoutError } from "./errors.ts";
import type { Settings } from "./options.ts";
import type { Clock, Timer } from "./runtime.ts";
import { UnderWay } from "./under_way.ts";

/** The settings that a {@linkcode LoadLimit} uses. */
type LimitSettings = Pick<Settings, "loadTimeoutMs" | "loadsMax" | "loadsWaitingMax">;

/** The part of a loader's context that limits it. */
type Bounds = Pick<LoadContext, "signal">;

/** The context of a loader's call. */
export interface LoadContext {
  /** Aborted when the load's time is over or the cache closes. */
  readonly signal: AbortSignal;
  /**
   * The value to replace, as it comes back from JSON, if it may still be answered: a loader that refreshes may
   * load only what is newer. `undefined` without one.
   */
  readonly stale?: unknown;
}

/**
 * Limits the number and duration of a cache's loads, so that an empty cache cannot send all of its traffic to
 * the database. First come, first served.
 *
 * A load may read another key through the same cache. It must not block that key's load:
 *
 * ```text
 * 1. as many loads as may run read another key each
 * 2. the loads of those keys wait for a place, which no load gives back before it has its other key
 * ```
 *
 * So a load gives up its place while it waits for a read, and gets the first free place when the read is done.
 * The number of working loads never exceeds the limit.
 */
export class LoadLimit {
  readonly #clock: Clock;
  readonly #settings: LimitSettings;
  readonly #context = new AsyncLocalStorage<Running>();
  /** Three queues: loads that continue after a read, loads that others wait for, all other loads. */
  readonly #queues: readonly [Admit[], Admit[], Admit[]] = [[], [], []];
  /** Loads that have not settled. */
  readonly #loads = new UnderWay<Load>();
  /** One timer for all, because cancelling a timer costs more than the rest of a load. */
  #timer: Timer | undefined;
  #running = 0;
  #abandoned = 0;
  #closedBy: Error | undefined;

  constructor(clock: Clock, settings: LimitSettings) {
    this.#clock = clock;
    this.#settings = settings;
  }

  /** Number of running loads, without those that wait for a read of theirs. */
  get running(): number {
    return this.#running;
  }

  /** Number of loads that had not settled long after their time-out, and lost their place. */
  get abandoned(): number {
    return this.#abandoned;
  }

  /**
   * Runs the load of some keys once there is a place, within its time limit, which counts from now.
   *
   * @throws {LoadRejectedError} Too many are running and waiting.
   * @throws {LoadTimeoutError} The time is over. The loader keeps its place until it settles, at most as long
   * again.
   * @throws The reason given to {@linkcode close}.
   */
  run<T>(loader: (bounds: Bounds) => Promise<T>, keys: LoadKeys = ""): Promise<T> {
    if (this.#closedBy !== undefined) return Promise.reject(this.#closedBy);
    return new Promise((resolve, reject) => {
      const dueMs = this.#clock.monotonicNow() + this.#settings.loadTimeoutMs;
      const load = new Load(keys, dueMs, reject);
      load.above = this.#context.getStore()?.load;
      this.#timer ??= this.#timerAt(load.dueMs);
      this.#runInPlace(load, loader).then(resolve, reject);
    });
  }

  /** True if the caller is part of a load of this key: a wait for that load would never end. */
  isWithin(key: string): boolean {
    let load = this.#context.getStore()?.load;
    while (load !== undefined && !load.isOf(key)) load = load.above;
    return load !== undefined;
  }

  /** Settles as `read` does. A load that waits for it gives up its place meanwhile. */
  whileAway<T>(read: () => Promise<T>): Promise<T> {
    const load = this.#context.getStore()?.load;
    return load === undefined ? read() : this.#leave(load, read);
  }

  /** Aborts every load with `reason`, and starts no more. */
  close(reason: Error): void {
    this.#closedBy = reason;
    this.#timer?.cancel();
    const loads = this.#loads.all();
    for (const load of loads) load.abort(reason);
    // After all are aborted: a place that is given back would otherwise go to a load that waits.
    for (const load of loads) this.#end(load);
  }

  async #leave<T>(load: Load, read: () => Promise<T>): Promise<T> {
    load.reads++;
    this.#giveBack(load);
    try {
      return await read();
    } finally {
      load.reads--;
      if (load.isWorking) {
        await this.#takeAgain();
        load.hasPlace = true;
        if (!load.isWorking) this.#giveBack(load); // it reads again, or has ended meanwhile
      }
    }
  }

  async #runInPlace<T>(load: Load, loader: (bounds: Bounds) => Promise<T>): Promise<T> {
    const running: Running = { load };
    const place = this.#loads.add(load);
    try {
      if (this.#running < this.#settings.loadsMax) this.#running++;
      else await this.#wait(load);
      load.hasPlace = true;
      return await this.#context.run(running, () => loader(load));
    } finally {
      running.load = undefined;
      this.#end(load);
      this.#loads.delete(place);
      if (this.#loads.size === 0) {
        this.#timer?.cancel();
        this.#timer = undefined;
      }
    }
  }

  #timerAt(dueMs: number): Timer {
    const delayMs = Math.max(0, dueMs - this.#clock.monotonicNow());
    return this.#clock.after(delayMs, () => this.#expire());
  }

  /** Ends the loads whose time is over. */
  #expire(): void {
    const { loadTimeoutMs } = this.#settings;
    const nowMs = this.#clock.monotonicNow();
    let nextMs = Infinity;
    for (const load of this.#loads.all()) {
      if (load.dueMs > nowMs) {
        nextMs = Math.min(nextMs, load.dueMs);
        continue;
      }
      load.abort(
        new LoadTimeoutError(`Cannot load: not done after ${loadTimeoutMs} ms (loadTimeoutMs)`),
      );
      // A loader that ignores its signal may never settle, so its place is given back.
      load.abandonTimer = this.#clock.after(loadTimeoutMs, () => {
        this.#abandoned++;
        this.#end(load);
      });
    }
    this.#timer = nextMs === Infinity ? undefined : this.#timerAt(nextMs);
  }

  #wait(load: Load): Promise<void> {
    const [, nested, others] = this.#queues;
    const queue = this.#context.getStore()?.load === undefined ? others : nested;
    const waiting = nested.length + others.length;
    if (waiting >= this.#settings.loadsWaitingMax) {
      throw new LoadRejectedError(
        `Cannot load: ${this.#running} loads run and ${waiting} wait (loadsMax, loadsWaitingMax)`,
      );
    }
    return new Promise((resolve, reject) => {
      const admit = () => {
        load.refuse = undefined;
        resolve();
      };
      queue.push(admit);
      load.refuse = (reason) => {
        queue.splice(queue.indexOf(admit), 1);
        reject(reason);
      };
    });
  }

  /** Takes a place for a load that has begun: it comes before all others, and is never refused. */
  #takeAgain(): Promise<void> {
    if (this.#running < this.#settings.loadsMax) {
      this.#running++;
      return Promise.resolve();
    }
    return new Promise((resolve) => void this.#queues[0].push(resolve));
  }

  /** A load has settled, or is abandoned. */
  #end(load: Load): void {
    load.ended = true;
    load.above = undefined; // loads that each begin the next one would all stay in memory
    load.abandonTimer?.cancel();
    this.#giveBack(load);
  }

  /** Passes the place of a load, if it has one, on to the next that waits, which leaves `running` as it is. */
  #giveBack(load: Load): void {
    if (!load.hasPlace) return;
    load.hasPlace = false;
    for (const queue of this.#queues) {
      const admit = queue.shift();
      if (admit !== undefined) return admit();
    }
    this.#running--;
  }
}

type Admit = () => void;

/** The key that a load is for, or the keys of a batch. */
type LoadKeys = string | ReadonlyMap<string, unknown>;

/**
 * The load that calls `whileAway`, by its asynchronous context. Emptied at its end, because the context would
 * otherwise keep the load in memory until the next full garbage collection.
 */
interface Running {
  load: Load | undefined;
}

/** One load: its keys, its signal, and its place, which it gives up while it waits for its own reads. */
class Load implements Bounds {
  readonly #keys: LoadKeys;
  readonly #dueMs: number;
  readonly #reject: (reason: Error) => void;
  #controller: AbortController | undefined;
  #abortedBy: Error | undefined;
  hasPlace = false;
  ended = false;
  /** Number of its reads that it waits for. */
  reads = 0;
  abandonTimer: Timer | undefined;
  /** Ends a wait for a place. */
  refuse: ((reason: Error) => void) | undefined;
  /** The load that asked for this one, until this one ends. */
  above: Load | undefined;

  /**
   * @param dueMs The monotonic time at which its time is over.
   * @param reject Called when it is aborted.
   */
  constructor(keys: LoadKeys, dueMs: number, reject: (reason: Error) => void) {
    this.#keys = keys;
    this.#dueMs = dueMs;
    this.#reject = reject;
  }

  /** True if it loads this key. */
  isOf(key: string): boolean {
    const keys = this.#keys;
    return !this.ended && (typeof keys === "string" ? keys === key : keys.has(key));
  }

  /** True if it needs a place. */
  get isWorking(): boolean {
    return this.reads === 0 && !this.ended;
  }

  /** The monotonic time at which its time is over; afterwards `Infinity`. */
  get dueMs(): number {
    return this.#abortedBy === undefined ? this.#dueMs : Infinity;
  }

  /** Made on first use: most loaders do not need it, and it would be the most expensive part of a load. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#abortedBy !== undefined) this.#controller.abort(this.#abortedBy);
    return this.#controller.signal;
  }

  abort(reason: Error): void {
    this.#abortedBy ??= reason;
    this.#controller?.abort(this.#abortedBy);
    this.refuse?.(reason);
    this.#reject(reason);
  }
}
