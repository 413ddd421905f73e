import type { Clock, Timer } from "../runtime.ts";

/** A timer that fires later than this is a sign that this process was busy, or did not run. */
const LATE_MS = 20;

/** A command that took longer than its time. It may or may not have taken effect. */
export class CommandTimeoutError extends Error {
  override readonly name = "CommandTimeoutError";
}

interface Waiting {
  readonly dueMs: number;
  /** `undefined` once it is settled: it would hold the reply until the timer comes by. */
  reject: ((error: CommandTimeoutError) => void) | undefined;
}

/**
 * Bounds how long commands may take. All have the same time, so they are due in the order in which they
 * began, and one timer serves.
 *
 * Time in which this process did not get to its answers is not held against the server:
 *
 * ```text
 * 1. client: sends a command; the answer arrives 1 ms later
 * 2. this process: is busy for as long as a command may take
 * 3. the timer is due, and comes before what the socket holds
 * ```
 *
 * A timer that is late tells of that, and the commands that are due get as much time again, once.
 */
export class Deadlines {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #waiting: Waiting[] = [];
  #timer: Timer | undefined;

  constructor(clock: Clock, timeoutMs: number) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** Settles as `command` does, or rejects with a {@linkcode CommandTimeoutError} when its time is over. */
  run<T>(command: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const dueMs = this.#clock.monotonicNow() + this.#timeoutMs;
      const waiting: Waiting = { dueMs, reject };
      this.#forget();
      this.#waiting.push(waiting);
      if (this.#timer === undefined) this.#arm(dueMs, false);
      command.then((reply) => {
        waiting.reject = undefined;
        resolve(reply);
      }, (error: unknown) => {
        waiting.reject = undefined;
        reject(error);
      });
    });
  }

  /** Rejects what is waiting, as if its time were over. */
  expireAll(): void {
    this.close();
    for (const { reject } of this.#waiting.splice(0)) reject?.(timedOut());
  }

  /** Bounds nothing any more: the connection ends, and every command with it. */
  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** Drops what has settled, as far as nothing older is waiting. */
  #forget(): void {
    let settledCount = 0;
    while (
      settledCount < this.#waiting.length && this.#waiting[settledCount]?.reject === undefined
    ) settledCount++;
    if (settledCount > 0) this.#waiting.splice(0, settledCount);
  }

  /** @param extended Whether what is due then has been given more time already. */
  #arm(dueMs: number, extended: boolean): void {
    const delayMs = Math.max(0, dueMs - this.#clock.monotonicNow());
    this.#timer = this.#clock.after(delayMs, () => {
      const nowMs = this.#clock.monotonicNow();
      const lateMs = Math.min(nowMs - dueMs, this.#timeoutMs);
      if (lateMs > LATE_MS && !extended) this.#arm(nowMs + lateMs, true);
      else this.#expire(nowMs);
    });
  }

  #expire(nowMs: number): void {
    let dueCount = 0;
    for (const waiting of this.#waiting) {
      if (waiting.reject !== undefined && waiting.dueMs > nowMs) break;
      dueCount++;
      waiting.reject?.(timedOut());
    }
    this.#waiting.splice(0, dueCount);
    this.#timer = undefined;
    const [next] = this.#waiting;
    if (next !== undefined) this.#arm(next.dueMs, false);
  }
}

function timedOut(): CommandTimeoutError {
  return new CommandTimeoutError("Cannot wait longer: the command timed out");
}
