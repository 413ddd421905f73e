import { type Clock, sleep, type Timer } from "./runtime.ts";

/** Occasional background work of a relay, which nothing waits for. */
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

  /** Answers true if a task was not taken within the last `everyMs`, and takes it. */
  takeIfDue(task: string, everyMs: number): boolean {
    if (this.#closed || this.#later.has(task)) return false;
    this.#later.set(task, this.#clock.after(everyMs, () => this.#later.delete(task)));
    return true;
  }

  /** Makes a task due, because it has failed. */
  makeDue(task: string): void {
    this.#later.get(task)?.cancel();
    this.#later.delete(task);
  }

  /** Calls `run` after a delay, once for all calls meanwhile. */
  soon(task: string, afterMs: number, run: () => void): void {
    if (this.#closed || this.#later.has(task)) return;
    const begin = () => {
      this.#later.delete(task);
      run();
    };
    this.#later.set(task, this.#clock.after(afterMs, begin));
  }

  /** Runs a task if it is due. */
  whenDue(task: string, everyMs: number, run: () => Promise<void>): void {
    if (this.takeIfDue(task, everyMs)) this.run(run);
  }

  /** Repeats a step until it answers false, with a pause after each. */
  async repeat(step: () => Promise<boolean>, restMs: number): Promise<void> {
    while (!this.#closed && await step()) await sleep(this.#clock, restMs);
  }

  /** Runs a task, and reports its error. */
  run(task: () => Promise<void>): void {
    const done = task().catch(this.#onError).finally(() => {
      this.#running.delete(done);
    });
    this.#running.add(done);
  }

  /** Starts nothing new, and waits for running tasks. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const timer of this.#later.values()) timer.cancel();
    await Promise.all(this.#running);
  }
}
