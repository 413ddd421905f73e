import type { Clock, Timer } from "../runtime.ts";

/** A timer that fires later than this shows that this process was busy or suspended. */
const LATE_MS = 20;

/** A command exceeded its time. It may or may not have taken effect. */
export class CommandTimeoutError extends Error {
  override readonly name = "CommandTimeoutError";
}

interface Waiting {
  dueMs: number;
  /** True if it has been given more time. */
  extended: boolean;
  /** `undefined` once it is settled; otherwise it would keep the reply in memory until the timer fires. */
  reject: ((error: CommandTimeoutError) => void) | undefined;
}

/**
 * Limits the duration of commands, with one timer for all of them.
 *
 * Time in which this process did not read its sockets does not count against the server:
 *
 * ```text
 * 1. client: sends a command; the answer arrives 1 ms later
 * 2. this process: is busy for as long as a command may take
 * 3. the timer is due, and comes before what the socket holds
 * ```
 *
 * A late timer shows this, and each command that is due then gets the same time again, once.
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
      const waiting: Waiting = { dueMs, extended: false, reject };
      this.#forget();
      this.#waiting.push(waiting);
      if (this.#timer === undefined) this.#arm(dueMs);
      command.then((reply) => {
        waiting.reject = undefined;
        resolve(reply);
      }, (error: unknown) => {
        waiting.reject = undefined;
        reject(error);
      });
    });
  }

  /** Rejects all waiting commands as if their time were over. */
  expireAll(): void {
    this.close();
    for (const { reject } of this.#waiting.splice(0)) {
      reject?.(timedOut("Redis answers no command"));
    }
  }

  /** Ends the time limits: the connection and all commands end. */
  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  /** Drops the settled commands that have no older one waiting before them. */
  #forget(): void {
    const oldest = this.#waiting.findIndex(({ reject }) => reject !== undefined);
    if (oldest !== 0) this.#waiting.splice(0, oldest < 0 ? Infinity : oldest);
  }

  #arm(dueMs: number): void {
    const delayMs = Math.max(0, dueMs - this.#clock.monotonicNow());
    this.#timer = this.#clock.after(delayMs, () => this.#expire(dueMs));
  }

  #expire(dueMs: number): void {
    const nowMs = this.#clock.monotonicNow();
    const lateMs = Math.min(nowMs - dueMs, this.#timeoutMs);
    const left = this.#waiting.splice(0).filter((waiting) => {
      if (waiting.reject === undefined) return false;
      if (waiting.dueMs > nowMs) return true;
      if (lateMs > LATE_MS && !waiting.extended) {
        waiting.dueMs = nowMs + lateMs;
        return waiting.extended = true;
      }
      waiting.reject(timedOut(`no reply from Redis within ${this.#timeoutMs} ms`));
      return false;
    });
    this.#waiting.push(...left);
    this.#timer = undefined;
    if (left.length > 0) this.#arm(Math.min(...left.map((waiting) => waiting.dueMs)));
  }
}

function timedOut(why: string): CommandTimeoutError {
  return new CommandTimeoutError(`Cannot wait longer: ${why}`);
}
