import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { CommandTimeoutError, Deadlines } from "../../../cache/redis/deadlines.ts";
import { type Clock, systemRuntime, type Timer } from "../../../cache/mod.ts";
import { FakeClock } from "../../support/fake_runtime.ts";

const TIMEOUT_MS = 100;

/** A clock whose timers fire only when told to, however late that is. */
class BusyClock implements Clock {
  nowMs = 0;
  readonly #timers: { readonly dueMs: number; readonly run: () => void }[] = [];

  now(): number {
    return this.nowMs;
  }

  monotonicNow(): number {
    return this.nowMs;
  }

  after(delayMs: number, run: () => void): Timer {
    const timer = { dueMs: this.nowMs + delayMs, run };
    this.#timers.push(timer);
    return { cancel: () => void this.#timers.splice(this.#timers.indexOf(timer), 1) };
  }

  /** It is `nowMs`, and the event loop comes to its timers only now. */
  wakeAt(nowMs: number): void {
    this.nowMs = nowMs;
    for (const timer of this.#timers.filter(({ dueMs }) => dueMs <= nowMs)) {
      this.#timers.splice(this.#timers.indexOf(timer), 1);
      timer.run();
    }
  }
}

describe("Deadlines.run()", () => {
  it("settles as the command does, in time", async () => {
    const deadlines = new Deadlines(new FakeClock(), TIMEOUT_MS);
    assertEquals(await deadlines.run(Promise.resolve("PONG")), "PONG");
    const refused = Promise.reject(new RangeError("no"));
    await assertRejects(() => deadlines.run(refused), RangeError, "no");
    deadlines.close();
  });

  it("rejects what waits when told to, and bounds what follows as before", async () => {
    const clock = new FakeClock();
    const deadlines = new Deadlines(clock, TIMEOUT_MS);
    const first = deadlines.run(new Promise(() => {}));
    await clock.advance(TIMEOUT_MS - 1);
    deadlines.expireAll();
    await assertRejects(() => first, CommandTimeoutError);
    const second = deadlines.run(new Promise(() => {}));
    let isOver = false;
    second.catch(() => isOver = true);
    await clock.advance(TIMEOUT_MS - 1);
    assertEquals(isOver, false);
    await clock.advance(1);
    assertEquals(isOver, true);
    assertEquals(clock.timers, 0);
  });

  it("rejects each command when its own time is over, and no other", async () => {
    const clock = new FakeClock();
    const deadlines = new Deadlines(clock, TIMEOUT_MS);
    const outcomes: string[] = [];
    const begin = (name: string): void => {
      deadlines.run(new Promise(() => {})).catch((error: unknown) => {
        assert(error instanceof CommandTimeoutError);
        outcomes.push(`${name} at ${clock.monotonicNow() - startedAtMs}`);
      });
    };
    const startedAtMs = clock.monotonicNow();
    begin("first");
    await clock.advance(60);
    begin("second");
    await clock.advance(39);
    assertEquals(outcomes, []);
    await clock.advance(1);
    assertEquals(outcomes, ["first at 100"]);
    await clock.advance(60);
    assertEquals(outcomes, ["first at 100", "second at 160"]);
  });

  it("gives what arrived while this process was busy the time to be read", async () => {
    const clock = new BusyClock();
    const deadlines = new Deadlines(clock, TIMEOUT_MS);
    const { promise, resolve } = Promise.withResolvers<string>();
    const running = deadlines.run(promise);
    clock.wakeAt(180); // due at 100, and the socket has not been looked at
    resolve("PONG");
    assertEquals(await running, "PONG");
    deadlines.close();
  });

  it("does so once, for as long as it was busy", async () => {
    const clock = new BusyClock();
    const deadlines = new Deadlines(clock, TIMEOUT_MS);
    let outcome = "open";
    deadlines.run(new Promise(() => {})).catch(() => outcome = "rejected");
    clock.wakeAt(150);
    await Promise.resolve();
    clock.wakeAt(199);
    await settle();
    assertEquals(outcome, "open");
    clock.wakeAt(300); // due at 200: late again
    await settle();
    assertEquals(outcome, "rejected");
  });

  it("leaves no timer behind once it is closed", async () => {
    const deadlines = new Deadlines(systemRuntime.clock, 60_000);
    assertEquals(await deadlines.run(Promise.resolve(1)), 1);
    deadlines.close(); // the sanitizers look
  });
});

async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await Promise.resolve();
}
