import type { Clock } from "./runtime.ts";

/** Readers that wait for another process's load, until the feed or a poll wakes them. */
export class Waiters {
  readonly #clock: Clock;
  readonly #waiting = new Map<
    string,
    { readonly promise: Promise<void>; readonly wake: () => void }
  >();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Resolves when the key is woken, or `pollMs` after its first reader began to wait. */
  wait(key: string, pollMs: number): Promise<void> {
    const waiting = this.#waiting.get(key);
    if (waiting !== undefined) return waiting.promise;
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => {
      timer.cancel();
      this.#waiting.delete(key);
      resolve();
    };
    const timer = this.#clock.after(pollMs, wake);
    this.#waiting.set(key, { promise, wake });
    return promise;
  }

  /** Wakes the readers of a key. */
  wake(key: string): void {
    this.#waiting.get(key)?.wake();
  }

  /** Wakes all readers. */
  wakeAll(): void {
    for (const { wake } of [...this.#waiting.values()]) wake();
  }
}
