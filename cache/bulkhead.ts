import { LoadRejectedError } from "./errors.ts";

/**
 * Bounds how much runs at once and how much waits, so that a cold or lost cache cannot send
 * everything it used to absorb to the database. First come, first served.
 */
export class Bulkhead {
  readonly #runningMax: number;
  readonly #waitingMax: number;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  /**
   * @param runningMax How many tasks run at once.
   * @param waitingMax How many wait behind them; one more is refused.
   */
  constructor(runningMax: number, waitingMax: number) {
    this.#runningMax = runningMax;
    this.#waitingMax = waitingMax;
  }

  /** Tasks running now. */
  get running(): number {
    return this.#running;
  }

  /**
   * Runs `task` when there is room, and passes its outcome on unchanged. A task whose `signal`
   * aborts while it waits gives its place up and is not run.
   *
   * @throws {LoadRejectedError} As many tasks wait already as may.
   */
  async run<T>(signal: AbortSignal, task: () => Promise<T>): Promise<T> {
    if (this.#running < this.#runningMax) this.#running++;
    else await this.#wait(signal);
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next(); // hands its place over: `running` stays as it is
    }
  }

  #wait(signal: AbortSignal): Promise<void> {
    if (this.#waiting.length >= this.#waitingMax) {
      throw new LoadRejectedError(
        `Cannot load: ${this.#running} loads running and ${this.#waiting.length} waiting`,
      );
    }
    return new Promise((resolve, reject) => {
      const admit = () => {
        signal.removeEventListener("abort", abandon);
        resolve();
      };
      const abandon = () => {
        this.#waiting.splice(this.#waiting.indexOf(admit), 1);
        reject(signal.reason);
      };
      signal.addEventListener("abort", abandon, { once: true });
      this.#waiting.push(admit);
    });
  }
}
