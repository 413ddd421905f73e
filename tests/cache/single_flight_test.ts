import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { SingleFlight } from "../../cache/single_flight.ts";
import { settle } from "../support/fake_runtime.ts";

/** Tasks that a test lets finish one by one. */
class Tasks {
  readonly flights = new SingleFlight<number>();
  readonly begun: PromiseWithResolvers<number>[] = [];

  run(key = "k"): Promise<number> {
    return this.flights.run(key, () => {
      const task = Promise.withResolvers<number>();
      this.begun.push(task);
      return task.promise;
    });
  }
}

describe("SingleFlight", () => {
  it("lets nobody join what has begun, and everybody join what waits behind it", async () => {
    const tasks = new Tasks();
    const first = tasks.run();
    const late = [tasks.run(), tasks.run(), tasks.run()];
    await settle();
    assertEquals(tasks.begun.length, 1);
    assertEquals(tasks.flights.joined, 2);
    tasks.begun[0]?.resolve(1);
    assertEquals(await first, 1);
    await settle();
    assertEquals(tasks.begun.length, 2);
    const later = tasks.run(); // the second has begun: not joined any more
    tasks.begun[1]?.resolve(2);
    assertEquals(await Promise.all(late), [2, 2, 2]);
    await settle();
    tasks.begun[2]?.resolve(3);
    assertEquals(await later, 3);
    assertEquals(tasks.flights.size, 0);
  });

  it("keeps keys apart", async () => {
    const tasks = new Tasks();
    const both = [tasks.run("a"), tasks.run("b")];
    assertEquals([tasks.begun.length, tasks.flights.size], [2, 2]);
    tasks.begun.forEach(({ resolve }, i) => resolve(i));
    assertEquals(await Promise.all(both), [0, 1]);
    assertEquals(tasks.flights.size, 0);
  });

  it("passes a rejection to every sharer unchanged, and goes on", async () => {
    const tasks = new Tasks();
    const first = tasks.run();
    const sharers = [tasks.run(), tasks.run()];
    const [one, two] = [new Error("one"), new Error("two")];
    tasks.begun[0]?.reject(one);
    assert(await assertRejects(() => first) === one);
    await settle();
    tasks.begun[1]?.reject(two);
    for (const outcome of await Promise.allSettled(sharers)) {
      assert(outcome.status === "rejected" && outcome.reason === two);
    }
    assertEquals(tasks.flights.size, 0);
    assertEquals(await tasks.flights.run("k", () => Promise.resolve(7)), 7);
  });
});
