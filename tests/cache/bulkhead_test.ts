import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import fc from "fast-check";
import { Bulkhead } from "../../cache/bulkhead.ts";
import { LoadRejectedError } from "../../cache/errors.ts";
import { settle } from "../support/fake_runtime.ts";

const { signal } = new AbortController();

describe("Bulkhead", () => {
  it("runs as many as may run, in the order they came, and refuses past the queue", async () => {
    const bulkhead = new Bulkhead(2, 2);
    const begun: number[] = [];
    const ends = Array.from({ length: 5 }, () => Promise.withResolvers<number>());
    const start = (i: number) =>
      bulkhead.run(signal, () => (begun.push(i), ends[i]?.promise ?? Promise.resolve(i)));
    const runs = [0, 1, 2, 3].map(start);
    const error = await assertRejects(() => start(4), LoadRejectedError);
    assertEquals(error.message, "Cannot load: 2 loads running and 2 waiting");
    assertEquals(begun, [0, 1]);
    ends[1]?.resolve(1);
    await settle();
    assertEquals([begun, bulkhead.running], [[0, 1, 2], 2]);
    ends[0]?.reject(new Error("failed")); // a failure makes room too
    await assertRejects(() => runs[0] ?? Promise.resolve(), Error, "failed");
    await settle();
    assertEquals(begun, [0, 1, 2, 3]);
    ends[2]?.resolve(2);
    ends[3]?.resolve(3);
    assertEquals(await Promise.all(runs.slice(1)), [1, 2, 3]);
    assertEquals(bulkhead.running, 0);
  });

  it("gives a place in the queue up when its signal aborts, and never runs the task", async () => {
    const bulkhead = new Bulkhead(1, 1);
    const end = Promise.withResolvers<void>();
    const first = bulkhead.run(signal, () => end.promise);
    const controller = new AbortController();
    let ran = false;
    const second = bulkhead.run(controller.signal, () => (ran = true, Promise.resolve()));
    const reason = new Error("deadline");
    controller.abort(reason);
    assert(await assertRejects(() => second) === reason);
    const third = bulkhead.run(signal, () => Promise.resolve(3));
    end.resolve();
    await first;
    assertEquals(await third, 3);
    assertEquals([ran, bulkhead.running], [false, 0]);
  });

  it("never runs more than it may, whatever comes, ends and aborts", async () => {
    const steps = fc.array(fc.record({ abort: fc.boolean(), end: fc.nat(5) }), { maxLength: 40 });
    await fc.assert(fc.asyncProperty(fc.integer({ min: 1, max: 4 }), steps, async (max, steps) => {
      const bulkhead = new Bulkhead(max, 3);
      const running: (() => void)[] = [];
      const outcomes: Promise<unknown>[] = [];
      let most = 0;
      for (const { abort, end } of steps) {
        const controller = new AbortController();
        const task = () => new Promise<void>((resolve) => void running.push(resolve));
        outcomes.push(bulkhead.run(controller.signal, task).catch((error: unknown) => error));
        if (abort) controller.abort();
        running.splice(end, 1)[0]?.();
        await settle();
        most = Math.max(most, running.length);
      }
      for (let last = running.pop(); last !== undefined; last = running.pop()) {
        last();
        await settle();
      }
      await Promise.all(outcomes);
      assert(most <= max);
      assertEquals(bulkhead.running, 0);
    }));
  });
});
