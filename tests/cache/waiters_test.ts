import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Waiters } from "../../cache/waiters.ts";
import { FakeClock, settle } from "../support/fake_runtime.ts";

/** Waits, and notes when it was over. */
function waiting(waiters: Waiters, key: string, pollMs: number): { readonly over: boolean } {
  const state = { over: false };
  void waiters.wait(key, pollMs).then(() => state.over = true);
  return state;
}

describe("Waiters", () => {
  it("wakes all who wait for a key, and nobody else", async () => {
    const clock = new FakeClock();
    const waiters = new Waiters(clock);
    const [a, b, other] = ["a", "a", "b"].map((key) => waiting(waiters, key, 100));
    waiters.wake("a");
    waiters.wake("nobody's");
    await settle();
    assertEquals([a?.over, b?.over, other?.over], [true, true, false]);
    assertEquals(clock.timers, 1);
    waiters.wakeAll();
    await settle();
    assertEquals([other?.over, clock.timers], [true, 0]);
  });

  it("ends the wait by itself when the poll is due", async () => {
    const clock = new FakeClock();
    const waiters = new Waiters(clock);
    const first = waiting(waiters, "a", 100);
    await clock.advance(60);
    const second = waiting(waiters, "a", 100); // shares the wait, and its end
    await clock.advance(39);
    assertEquals([first.over, second.over], [false, false]);
    await clock.advance(1);
    assertEquals([first.over, second.over, clock.timers], [true, true, 0]);
  });
});
