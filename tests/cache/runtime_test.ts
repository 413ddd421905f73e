import { assert } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { systemRuntime } from "../../cache/mod.ts";

describe("systemRuntime", () => {
  it("does not fire a timer at once because its delay is long", async () => {
    let fired = false;
    const { clock } = systemRuntime;
    const timers = [2 ** 31, 1e12, Infinity].map((ms) => clock.after(ms, () => fired = true));
    await new Promise<void>((resolve) => void clock.after(20, resolve));
    for (const timer of timers) timer.cancel();
    assert(!fired);
  });
});
