import type { DriverOptions } from "./_options.ts";
import { unavailable } from "./_unavailable.ts";

/**
 * Limits the number of statements and transactions that run and wait, so that they do not accumulate while a
 * server is slow.
 */
export class StatementBound {
  readonly #countMax: number;
  #count = 0;
  #drained: PromiseWithResolvers<void> | undefined;

  /** Allows `poolMax` to run, and `queueMax` to wait; any more are refused. */
  constructor({ poolMax, queueMax }: DriverOptions) {
    this.#countMax = poolMax + queueMax;
  }

  /** The number that run and wait. */
  get count(): number {
    return this.#count;
  }

  /** Resolves once none is left. */
  async drained(): Promise<void> {
    if (this.#count === 0) return;
    this.#drained ??= Promise.withResolvers();
    await this.#drained.promise;
  }

  /**
   * Passes on the result of `work`.
   *
   * @throws {DatabaseUnavailableError} Too many are waiting.
   */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#count >= this.#countMax) {
      throw unavailable(`${this.#count} statements run and wait already`, undefined);
    }
    this.#count++;
    try {
      return await work();
    } finally {
      this.#count--;
      if (this.#count === 0) this.#drained?.resolve();
    }
  }
}
