import { setImmediate } from "node:timers/promises";
import type { Clock, Runtime, Timer } from "../../cache/runtime.ts";

/** Where a fake wall clock begins: any fixed time does. */
const EPOCH_MS = 1_700_000_000_000;

/** Lets everything run that waits for nothing but its turn. */
export async function settle(): Promise<void> {
  await setImmediate();
}

/** A clock that moves when a test says so. */
export class FakeClock implements Clock {
  readonly #timers = new Set<FakeTimer>();
  #monotonicMs = 0;
  #wallOffsetMs = EPOCH_MS;

  /** Timers that have neither fired nor been taken back. */
  get timers(): number {
    return this.#timers.size;
  }

  /** When the next timer is due, on the monotonic clock. */
  get nextMs(): number | undefined {
    return this.#next()?.atMs;
  }

  /** Wall time. */
  now(): number {
    return this.#wallOffsetMs + this.#monotonicMs;
  }

  /** Time since the clock was made. */
  monotonicNow(): number {
    return this.#monotonicMs;
  }

  /** Calls `run` when the clock has been advanced by `delayMs`. */
  after(delayMs: number, run: () => void): Timer {
    const timer: FakeTimer = { atMs: this.#monotonicMs + Math.max(0, delayMs), run };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  /**
   * Moves time on. Timers fire in the order they are due, each at its time, and what a timer sets off
   * runs before the next one fires.
   */
  async advance(ms: number): Promise<void> {
    const endMs = this.#monotonicMs + ms;
    await settle();
    for (let next = this.#next(); next !== undefined && next.atMs <= endMs; next = this.#next()) {
      this.#fire(next);
      await settle();
    }
    this.#monotonicMs = endMs;
  }

  /** Moves time on without letting timers fire on the way, as a process that was suspended sees it. */
  jump(ms: number): void {
    this.#monotonicMs += ms;
  }

  /** Moves on to the next timer and fires it. Answers whether there was one. */
  async advanceToNext(): Promise<boolean> {
    const next = this.#next();
    if (next === undefined) return false;
    this.#fire(next);
    await settle();
    return true;
  }

  /** Sets the wall clock, as an administrator or NTP would. The monotonic clock doesn't notice. */
  stepWall(ms: number): void {
    this.#wallOffsetMs += ms;
  }

  #fire(timer: FakeTimer): void {
    this.#timers.delete(timer);
    this.#monotonicMs = Math.max(this.#monotonicMs, timer.atMs);
    timer.run();
  }

  /** The earliest timer; of several due together, the one set first. */
  #next(): FakeTimer | undefined {
    let next: FakeTimer | undefined;
    for (const timer of this.#timers) {
      if (next === undefined || timer.atMs < next.atMs) next = timer;
    }
    return next;
  }
}

interface FakeTimer {
  readonly atMs: number;
  readonly run: () => void;
}

/** Where the chance of a {@linkcode FakeRuntime} comes from. */
export interface Chance {
  /** Seed of a generator. */
  readonly seed?: number;
  /** Numbers to draw in turn; the last one is drawn for ever. */
  readonly script?: readonly number[];
}

/** Time and chance under the control of a test. Without a seed or script every draw is 0.5. */
export class FakeRuntime implements Runtime {
  /** The clock. */
  readonly clock: FakeClock = new FakeClock();
  readonly #draw: () => number;

  constructor(chance: Chance = {}) {
    if (chance.seed !== undefined) this.#draw = seededRandom(chance.seed);
    else this.#draw = scripted(chance.script ?? [0.5]);
  }

  /** The next number of the script or generator. */
  random(): number {
    return this.#draw();
  }
}

/** mulberry32 (Tommy Ettinger): small, and good enough for tests. */
export function seededRandom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function scripted(script: readonly number[]): () => number {
  let at = 0;
  return () => script[Math.min(at++, script.length - 1)] ?? 0.5;
}
