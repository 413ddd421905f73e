import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import fc from "fast-check";
import { LoadRejectedError, LoadTimeoutError } from "../../cache/errors.ts";
import { LoadLimit } from "../../cache/load_limit.ts";
import { FakeClock, settle } from "../support/fake_runtime.ts";

function open(loadsMax = 1, loadsWaitingMax = 1) {
  const clock = new FakeClock();
  return { clock, limit: new LoadLimit(clock, { loadTimeoutMs: 100, loadsMax, loadsWaitingMax }) };
}

const never = (): Promise<never> => new Promise(() => {});

describe("LoadLimit, its number", () => {
  it("runs as many as may run, in the order they came, and refuses past the queue", async () => {
    const { limit } = open(2, 2);
    const begun: number[] = [];
    const ends = Array.from({ length: 5 }, () => Promise.withResolvers<number>());
    const start = (i: number) =>
      limit.run(() => (begun.push(i), ends[i]?.promise ?? Promise.resolve(i)));
    const runs = [0, 1, 2, 3].map(start);
    const error = await assertRejects(() => start(4), LoadRejectedError);
    assertEquals(error.message, "Cannot load: 2 loads run and 2 wait (loadsMax, loadsWaitingMax)");
    assertEquals(begun, [0, 1]);
    ends[1]?.resolve(1);
    await settle();
    assertEquals([begun, limit.running], [[0, 1, 2], 2]);
    ends[0]?.reject(new Error("failed")); // a failure makes room too
    await assertRejects(() => runs[0] ?? Promise.resolve(), Error, "failed");
    await settle();
    assertEquals(begun, [0, 1, 2, 3]);
    ends[2]?.resolve(2);
    ends[3]?.resolve(3);
    assertEquals(await Promise.all(runs.slice(1)), [1, 2, 3]);
    assertEquals(limit.running, 0);
  });

  it("never runs more than it may, whatever comes, ends and reads", async () => {
    const steps = fc.array(fc.record({ reads: fc.nat(3), end: fc.nat(5) }), { maxLength: 40 });
    await fc.assert(fc.asyncProperty(fc.integer({ min: 1, max: 4 }), steps, async (max, steps) => {
      const { limit } = open(max, 10);
      const ends: (() => void)[] = [];
      const outcomes: Promise<unknown>[] = [];
      let working = 0;
      let most = 0;
      const work = async () => {
        most = Math.max(most, ++working);
        await new Promise<void>((resolve) => void ends.push(resolve));
        working--;
      };
      const load = async (reads: number): Promise<void> => {
        await work();
        if (reads === 0) return;
        await limit.whileAway(() => limit.run(() => load(reads - 1)));
        await work();
      };
      for (const { reads, end } of steps) {
        outcomes.push(limit.run(() => load(reads)).catch((error: unknown) => error));
        await settle();
        ends.splice(end, 1)[0]?.();
        await settle();
      }
      for (let last = ends.shift(); last !== undefined; last = ends.shift()) {
        last();
        await settle();
      }
      await Promise.all(outcomes);
      assert(most <= max, `${most} worked at once`);
      assertEquals([limit.running, working], [0, 0]);
    }));
  });
});

describe("LoadLimit, loads that wait for reads", () => {
  it("lets the loads that others wait for run in the place of those", async () => {
    const { clock, limit } = open(2, 100);
    const outer = (i: number) =>
      limit.run(async () => {
        await Promise.resolve();
        return await limit.whileAway(() => limit.run(() => Promise.resolve(i)));
      });
    assertEquals(await Promise.all([0, 1, 2, 3, 4].map(outer)), [0, 1, 2, 3, 4]);
    assertEquals([limit.running, clock.timers], [0, 0]);
  });

  it("runs those first, so that the loads that have begun get done", async () => {
    const { limit } = open(1, 100);
    const order: string[] = [];
    const load = (name: string) => () => (order.push(name), Promise.resolve(name));
    const outer = limit.run(() =>
      limit.whileAway(async () => {
        await settle();
        return await limit.run(load("inner"));
      })
    );
    const others = [limit.run(() => settle().then(load("a"))), limit.run(load("b"))];
    await Promise.all([outer, ...others]);
    assertEquals(order, ["a", "inner", "b"]);
  });

  it("gives one place back for several reads at once, and takes it again when all are done", async () => {
    const { limit } = open(1, 100);
    const ends = [0, 1].map(() => Promise.withResolvers<void>());
    const seen: number[] = [];
    const outer = limit.run(async () => {
      await Promise.all(ends.map(async ({ promise }) => {
        await limit.whileAway(() => promise);
        seen.push(limit.running);
      }));
      return limit.running;
    });
    await settle();
    assertEquals(limit.running, 0);
    for (const { resolve } of ends) {
      resolve();
      await settle();
    }
    assertEquals([await outer, seen, limit.running], [1, [0, 1], 0]);
  });

  it("keeps no place that comes while it reads again", async () => {
    const { limit } = open();
    const part = () => Promise.withResolvers<void>();
    const [first, again, other, second] = [part(), part(), part(), part()];
    const outer = limit.run(async () => {
      const read = limit.whileAway(() => first.promise);
      await again.promise;
      await Promise.all([read, limit.whileAway(() => second.promise)]);
      return limit.running;
    });
    const taker = limit.run(() => other.promise);
    await settle();
    for (const { resolve } of [first, again, other]) { // it waits for its place, reads again, and is given it
      resolve();
      await settle();
    }
    await taker;
    assertEquals([limit.running, await limit.run(() => Promise.resolve(2))], [0, 2]);
    second.resolve();
    assertEquals([await outer, limit.running], [1, 0]);
  });

  it("does not let an error of a read keep its place", async () => {
    const { limit } = open(1, 1);
    const fail = () => Promise.reject(new Error("no"));
    await assertRejects(() => limit.run(() => limit.whileAway(() => limit.run(fail))), Error, "no");
    assertEquals(limit.running, 0);
  });
});

describe("LoadLimit, its time", () => {
  it("ends a load at its deadline, and aborts its signal with the same error", async () => {
    const { clock, limit } = open();
    const signals: AbortSignal[] = [];
    const end = Promise.withResolvers<never>();
    const refused = assertRejects(
      () => limit.run(({ signal }) => (signals.push(signal), end.promise)),
      LoadTimeoutError,
    );
    await clock.advance(99);
    assertEquals(signals[0]?.aborted, false);
    await clock.advance(1);
    assert(signals[0]?.reason === await refused);
    end.reject(new Error("cancelled"));
    await settle();
    assertEquals([clock.timers, limit.running, limit.abandoned], [0, 0, 0]);
  });

  it("counts the wait for its turn, and keeps the place of a loader that is late", async () => {
    const { clock, limit } = open();
    const end = Promise.withResolvers<number>();
    let ran = false;
    const outcomes = Promise.all([
      assertRejects(() => limit.run(() => end.promise), LoadTimeoutError),
      assertRejects(() => limit.run(() => (ran = true, Promise.resolve())), LoadTimeoutError),
    ]);
    await settle();
    await assertRejects(() => limit.run(never), LoadRejectedError);
    await clock.advance(100);
    await outcomes;
    assertEquals([ran, limit.running], [false, 1]);
    const next = limit.run(() => Promise.resolve(3));
    end.resolve(1);
    assertEquals(await next, 3);
    assertEquals([clock.timers, limit.abandoned], [0, 0]);
  });

  it("gives the place of a loader that never settles back, and counts it", async () => {
    const { clock, limit } = open();
    const stuck = assertRejects(() => limit.run(never), LoadTimeoutError);
    await clock.advance(100);
    await stuck;
    const waiting = limit.run(() => Promise.resolve(2));
    await clock.advance(99);
    assertEquals([limit.running, limit.abandoned], [1, 0]);
    await clock.advance(1);
    assertEquals([await waiting, limit.running, limit.abandoned], [2, 0, 1]);
    assertEquals(clock.timers, 0);
  });

  it("gives a place in the queue up at the deadline, and never runs the load", async () => {
    const { clock, limit } = open();
    const end = Promise.withResolvers<void>();
    const first = limit.run(() => end.promise).catch((error: unknown) => error);
    await clock.advance(50);
    let ran = false;
    const second = limit.run(() => (ran = true, Promise.resolve()));
    end.resolve();
    await first;
    await second;
    assert(ran);
  });

  it("passes on what a loader throws at once", async () => {
    const { clock, limit } = open();
    const error = new Error("bug");
    const failed = await assertRejects(() =>
      limit.run(() => {
        throw error;
      })
    );
    assert(failed === error);
    assertEquals([clock.timers, limit.running], [0, 0]);
  });

  it("close() aborts what runs and waits, and refuses what comes", async () => {
    const { clock, limit } = open();
    let ran = false;
    const running = [limit.run(never), limit.run(() => (ran = true, never()))];
    const reason = new Error("closed");
    limit.close(reason);
    for (const outcome of await Promise.allSettled([...running, limit.run(never)])) {
      assert(outcome.status === "rejected" && outcome.reason === reason);
    }
    assertEquals([ran, clock.timers], [false, 0]);
  });
});
