import type { LoadContext, LoadLimit } from "./load_limit.ts";
import type { Clock, Timer } from "./runtime.ts";

/** A batch that is not complete is sent once no key has been added for this time. */
const GATHER_MS_MAX = 2;

/** Loads several values at once. A key that is absent from the map does not exist. */
export type BatchLoader<T> = (
  keys: readonly string[],
  context: LoadContext,
) => Promise<ReadonlyMap<string, T>>;

/**
 * Gathers the keys of one batched read that need loading, and loads them with one call.
 *
 * The call is made once every key of the read has been answered or has asked for a load, or after a short time
 * without a new key: two batches that each hold a key of the other must not wait for each other for ever. Keys
 * that ask later, the refreshes after stale answers, are gathered for that short time.
 */
export class LoadBatch<T> {
  readonly #limit: LoadLimit;
  readonly #clock: Clock;
  readonly #loadMissing: BatchLoader<T>;
  #gathering = new Map<string, Gathered<T>>();
  readonly #undecided: Set<string>;
  #timer: Timer | undefined;

  /** @param keys Every key of the read. */
  constructor(
    wiring: { readonly limit: LoadLimit; readonly clock: Clock },
    loadMissing: BatchLoader<T>,
    keys: readonly string[],
  ) {
    this.#limit = wiring.limit;
    this.#clock = wiring.clock;
    this.#loadMissing = loadMissing;
    this.#undecided = new Set(keys);
  }

  /** Asks for the load of a key. */
  load(key: string): Promise<T | undefined> {
    const gathered = Promise.withResolvers<T | undefined>();
    this.#gathering.set(key, gathered);
    if (this.#timer === undefined) this.#dispatchSoon();
    this.decided(key);
    return gathered.promise;
  }

  /** Notes that a key has been answered, or has asked for its load. */
  decided(key: string): void {
    if (this.#undecided.delete(key) && this.#undecided.size === 0) void this.#dispatch();
  }

  #dispatchSoon(): void {
    const { size } = this.#gathering;
    this.#timer = this.#clock.after(GATHER_MS_MAX, () => {
      if (this.#gathering.size > size) this.#dispatchSoon();
      else void this.#dispatch();
    });
  }

  /** Never rejects: its callers get the outcome. */
  async #dispatch(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    const gathered = this.#gathering;
    if (gathered.size === 0) return;
    this.#gathering = new Map();
    const loadMissing = this.#loadMissing;
    try {
      const values = await this.#limit.run(
        (context) => loadMissing([...gathered.keys()], context),
        gathered,
      );
      if (typeof values?.get !== "function") {
        throw new TypeError("Cannot load several keys: their loader must return a Map, by key");
      }
      for (const [key, { resolve }] of gathered) resolve(values.get(key));
    } catch (error) {
      for (const { reject } of gathered.values()) reject(error);
    }
  }
}

type Gathered<T> = PromiseWithResolvers<T | undefined>;
