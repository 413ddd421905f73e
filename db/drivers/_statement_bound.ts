import { unavailable } from "./_unavailable.ts";

/**
 * Bounds how many statements and transactions run and wait at once, so that a slow server doesn't
 * gather all that is sent meanwhile.
 */
export class StatementBound {
  readonly #countMax: number;
  #count = 0;

  /**
   * @param poolMax How many run.
   * @param queueMax How many wait behind them; one more is refused.
   */
  constructor(poolMax: number, queueMax: number) {
    this.#countMax = poolMax + queueMax;
  }

  /**
   * Passes on what `work` answers.
   *
   * @throws {DatabaseUnavailableError} As many wait already as may.
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
    }
  }
}
