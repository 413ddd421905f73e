import { type Clock, sleep, type Timer } from "./runtime.ts";

/** Work that is done now and then beside the relaying, and never waited for. */
export class Chores implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #onError: (error: unknown) => void;
  readonly #later = new Map<string, Timer>();
  readonly #running = new Set<Promise<void>>();
  #closed = false;

  constructor(clock: Clock, onError: (error: unknown) => void) {
    this.#clock = clock;
    this.#onError = onError;
  }

  /** Whether a task was not due within the last `everyMs`. Then it is not for as long again. */
  isDue(task: string, everyMs: number): boolean {
    if (this.#closed || this.#later.has(task)) return false;
    this.#later.set(task, this.#clock.after(everyMs, () => this.#later.delete(task)));
    return true;
  }

  /** Calls `run` after a while, once for all who ask for it meanwhile. */
  soon(task: string, afterMs: number, run: () => void): void {
    if (this.#closed || this.#later.has(task)) return;
    const begin = () => {
      this.#later.delete(task);
      run();
    };
    this.#later.set(task, this.#clock.after(afterMs, begin));
  }

  /** Runs a task, if it is due. */
  whenDue(task: string, everyMs: number, run: () => Promise<void>): void {
    if (this.isDue(task, everyMs)) this.run(run);
  }

  /** Takes steps until there is nothing left to do, with a rest behind each. */
  async repeat(step: () => Promise<boolean>, restMs: number): Promise<void> {
    while (!this.#closed && await step()) await sleep(this.#clock, restMs);
  }

  /** Runs a task. What it throws is told. */
  run(task: () => Promise<void>): void {
    const done = task().catch(this.#onError).finally(() => {
      this.#running.delete(done);
    });
    this.#running.add(done);
  }

  /** Begins nothing any more, and waits for what is under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const timer of this.#later.values()) timer.cancel();
    await Promise.all(this.#running);
  }
}
