import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache } from "../../cache/mod.ts";
import { LoadBatch } from "../../cache/load_batch.ts";
import { LoadLimit } from "../../cache/load_limit.ts";
import { FakeRuntime, settle } from "../support/fake_runtime.ts";
import { SimulatedServer } from "../support/simulated_store.ts";

/** A batch of keys, and the calls it made. */
function open(keys: readonly string[]) {
  const runtime = new FakeRuntime();
  const bounds = { loadTimeoutMs: 1_000, loadsMax: 10, loadsWaitingMax: 10 };
  const calls: (readonly string[])[] = [];
  const wiring = { limit: new LoadLimit(runtime.clock, bounds), clock: runtime.clock };
  const batch = new LoadBatch<string>(wiring, (keys) => {
    calls.push(keys);
    return Promise.resolve(new Map(keys.map((key) => [key, `${key}!`])));
  }, keys);
  return { runtime, batch, calls };
}

describe("LoadBatch", () => {
  it("goes out as soon as every key has asked or been answered", async () => {
    const { runtime, batch, calls } = open(["a", "b", "c"]);
    const [a, c] = [batch.load("a"), batch.load("c")];
    await settle();
    assertEquals(calls, []);
    batch.decided("b");
    assertEquals([await a, await c], ["a!", "c!"]);
    assertEquals(calls, [["a", "c"]]);
    assertEquals(runtime.clock.timers, 0);
  });

  it("goes out without those that take too long, and takes them along later", async () => {
    const { runtime, batch, calls } = open(["a", "b"]);
    const a = batch.load("a");
    await runtime.clock.advance(2);
    assertEquals([await a, calls], ["a!", [["a"]]]);
    assertEquals(await batch.load("b"), "b!");
    assertEquals(runtime.clock.timers, 0);
  });

  it("waits for as long as more keys ask, and no longer", async () => {
    const { runtime, batch, calls } = open(["a", "b", "c", "d"]);
    const loads = [batch.load("a")];
    for (const key of ["b", "c"]) {
      await runtime.clock.advance(1);
      loads.push(batch.load(key));
      await runtime.clock.advance(1);
      assertEquals(calls, []);
    }
    await runtime.clock.advance(2);
    assertEquals([await Promise.all(loads), calls], [["a!", "b!", "c!"], [["a", "b", "c"]]]);
  });

  it("gathers what asks after all were answered: refreshes make one call too", async () => {
    const { runtime, batch, calls } = open(["a", "b"]);
    batch.decided("a");
    batch.decided("b");
    const loads = [batch.load("a"), batch.load("b")];
    await runtime.clock.advance(4);
    assertEquals([await Promise.all(loads), calls], [["a!", "b!"], [["a", "b"]]]);
  });

  it("passes an error to every key", async () => {
    const runtime = new FakeRuntime();
    const bounds = { loadTimeoutMs: 1_000, loadsMax: 10, loadsWaitingMax: 10 };
    const wiring = { limit: new LoadLimit(runtime.clock, bounds), clock: runtime.clock };
    const error = new Error("down");
    const batch = new LoadBatch(wiring, () => Promise.reject(error), ["a", "b"]);
    for (const outcome of await Promise.allSettled([batch.load("a"), batch.load("b")])) {
      assert(outcome.status === "rejected" && outcome.reason === error);
    }
  });
});

describe("Cache.getOrLoadMany()", () => {
  it("never waits for ever when two batches hold each other's keys", async () => {
    const runtime = new FakeRuntime();
    const server = new SimulatedServer({ clock: runtime.clock });
    const caches = ["a", "b"].map((name) =>
      new Cache({ runtime, memoryBytes: 64 * 1024 }, server.connect(name))
    );
    await settle();
    const calls: string[] = [];
    const load = (keys: readonly string[]) => {
      calls.push(...keys);
      return Promise.resolve(new Map(keys.map((key) => [key, key])));
    };
    const keys = Array.from({ length: 20 }, (_, i) => `k${i}`);
    const reads = Promise.all([
      ...caches.map((cache) => cache.getOrLoadMany(keys, load)),
      ...caches.map((cache) => cache.getOrLoadMany(keys.toReversed(), load)),
    ]);
    await runtime.clock.advance(1_000);
    for (const found of await reads) assertEquals(found.length, 20);
    assertEquals(calls.length, 20); // each key once
    for (const cache of caches) await cache.close();
    assertEquals(runtime.clock.timers, 0);
  });

  it("fences every key by itself: one that is deleted meanwhile is not stored", async () => {
    const runtime = new FakeRuntime();
    const server = new SimulatedServer({ clock: runtime.clock });
    const cache = new Cache({ runtime, memoryBytes: 64 * 1024 }, server.connect("a"));
    await settle();
    const select = Promise.withResolvers<ReadonlyMap<string, number>>();
    const reading = cache.getOrLoadMany(["a", "b"], () => select.promise);
    await settle();
    await cache.delete("a");
    select.resolve(new Map([["a", 1], ["b", 1]]));
    assertEquals((await reading).map((found) => found.value()), [1, 1]);
    await settle();
    assertEquals([server.bytesOf("a") !== undefined, server.bytesOf("b") !== undefined], [
      false,
      true,
    ]);
    await cache.close();
  });

  it("refuses the whole batch when a key can't be used", async () => {
    await using cache = new Cache({ memoryBytes: 64 * 1024 });
    const load = () => Promise.resolve(new Map());
    await assertRejects(() => cache.getOrLoadMany(["a", ""], load), TypeError);
  });

  it("says what a loader must return that returned something else", async () => {
    await using cache = new Cache();
    for (const values of [["row"], { a: "row" }, undefined, null]) {
      const load = () => Promise.resolve(JSON.parse(JSON.stringify({ values })).values);
      const error = await assertRejects(() => cache.getOrLoadMany(["a"], load), TypeError);
      assertEquals(
        error.message,
        "Cannot load several keys: their loader must return a Map, by key",
      );
    }
  });

  it("reads 1,000 keys at a time, so that a long list does not outlast the leases of its keys", async () => {
    await using cache = new Cache();
    const keys = Array.from({ length: 2_500 }, (_, i) => `k${i}`);
    const calls: number[] = [];
    const read = () =>
      cache.getOrLoadMany([...keys, "k7"], (missing) => {
        calls.push(missing.length);
        return Promise.resolve(new Map(missing.map((key) => [key, key])));
      });
    assertEquals((await read()).map((lookup) => lookup.value()), [...keys, "k7"]);
    assertEquals(calls, [1_000, 1_000, 500]);
    assertEquals((await read()).every(({ source }) => source === "memory"), true);
  });
});
