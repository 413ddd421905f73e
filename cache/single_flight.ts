import { UnderWayByKey } from "./under_way.ts";

/**
 * One look-up per key at a time in this process, which callers can join only before it is sent.
 *
 * An ordinary single flight lets a caller join a call that is already running. In a cache that must be fresh
 * after a write, that gives a stale read:
 *
 * ```text
 * 1. reader A: GET key is sent, and reads the old value
 * 2. writer:   UPDATE, DEL key, acknowledged
 * 3. reader B: starts after the acknowledgement, joins A's GET, and gets the old value
 * ```
 *
 * So at most one look-up per key runs and at most one waits for it to end, as in a group commit: B joins the
 * waiting one, which is sent after B began.
 */
export class SingleFlight<T> {
  readonly #flights = new UnderWayByKey<Flight<T>>();
  #joined = 0;

  /** Number of callers that shared another caller's look-up. */
  get joined(): number {
    return this.#joined;
  }

  /** Keys with a running look-up. */
  get size(): number {
    return this.#flights.size;
  }

  /**
   * Runs `task` for `key`, or shares the outcome of one that has not begun. All who share it get the same
   * rejection, unchanged. `task` must not throw synchronously.
   */
  run(key: string, task: () => Promise<T>): Promise<T> {
    const flight = this.#flights.get(key);
    if (flight === undefined) {
      const first: Flight<T> = { waiting: undefined };
      this.#flights.set(key, first);
      return this.#drive(key, first, task);
    }
    if (flight.waiting !== undefined) {
      this.#joined++;
      return flight.waiting.promise;
    }
    const { promise, resolve } = Promise.withResolvers<T>();
    flight.waiting = { task, promise, resolve };
    return promise;
  }

  async #drive(key: string, flight: Flight<T>, task: () => Promise<T>): Promise<T> {
    try {
      return await task();
    } finally {
      const waiting = flight.waiting;
      flight.waiting = undefined;
      if (waiting === undefined) this.#flights.delete(key);
      else waiting.resolve(this.#drive(key, flight, waiting.task));
    }
  }
}

interface Flight<T> {
  waiting: {
    readonly task: () => Promise<T>;
    readonly promise: Promise<T>;
    readonly resolve: (outcome: Promise<T>) => void;
  } | undefined;
}
