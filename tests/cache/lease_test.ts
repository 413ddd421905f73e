import { assertEquals, assertGreater, assertNotEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache } from "../../cache/mod.ts";
import { leaseOf, stampOf } from "../../cache/lease.ts";
import { FakeRuntime, settle } from "../support/fake_runtime.ts";
import { FaultStore } from "../support/fault_store.ts";
import { SimulatedServer } from "../support/simulated_store.ts";

const options = { memoryBytes: 64 * 1024 };

/** A slow Redis: how long a command takes to arrive, and its reply to come back. */
const SLOW_STEP_MS = 50;
/** Value and tags, the tags again, the lease. */
const LOOK_UP_STEPS = 6;

/** Two caches around one simulated Redis. */
async function openTwo() {
  const runtime = new FakeRuntime();
  const server = new SimulatedServer({ clock: runtime.clock });
  const a = new Cache({ ...options, runtime }, server.connect("a"));
  const b = new Cache({ ...options, runtime }, server.connect("b"));
  await settle();
  return { runtime, server, a, b };
}

describe("leaseOf()", () => {
  it("puts the tag versions behind the nonce, where stampOf() finds them", () => {
    const tags = [{ name: "*", version: "r1" }, { name: "users", version: "u1" }];
    assertEquals(leaseOf("n1", tags), "n1 r1,u1");
    assertEquals(stampOf(leaseOf("n1", tags)), stampOf(leaseOf("n2", tags)));
    assertNotEquals(stampOf(leaseOf("n1", tags)), stampOf(leaseOf("n1", tags.slice(1))));
  });
});

describe("Cache, loading under a lease", () => {
  it("stores nothing that was loaded before another instance's delete", async () => {
    const { runtime, server, a, b } = await openTwo();
    const select = Promise.withResolvers<number>();
    const reading = a.getOrLoad("k", () => select.promise);
    await settle();
    await b.delete("k");
    select.resolve(1);
    assertEquals((await reading).value(), 1);
    await settle();
    assertEquals(server.bytesOf("k"), undefined);
    assertEquals(a.stats().refusedFills, 1);
    assertEquals((await b.getOrLoad("k", () => Promise.resolve(2))).value(), 2);
    await a.close();
    await b.close();
    assertEquals(runtime.clock.timers, 0);
  });

  it("lets callers of other instances wait for the one that loads, and wakes them", async () => {
    const { runtime, a, b } = await openTwo();
    const select = Promise.withResolvers<number>();
    let loads = 0;
    const load = () => (loads++, select.promise);
    const reads = [a, b].flatMap((cache) =>
      Array.from({ length: 50 }, () => cache.getOrLoad("k", load))
    );
    await settle();
    select.resolve(1);
    const sources = new Set((await Promise.all(reads)).map(({ source }) => source));
    assertEquals(loads, 1);
    assertEquals(sources, new Set(["load", "redis", "memory"]));
    assertEquals(runtime.clock.monotonicNow(), 0); // woken by the feed, not by the poll
    await a.close();
    await b.close();
  });

  it("polls where no feed wakes it", async () => {
    const runtime = new FakeRuntime();
    const server = new SimulatedServer({ clock: runtime.clock });
    const a = new Cache({ ...options, runtime }, server.connect("a", { feed: false }));
    const b = new Cache({ ...options, runtime }, server.connect("b", { feed: false }));
    const select = Promise.withResolvers<number>();
    const first = a.getOrLoad("k", () => select.promise);
    await settle();
    const second = b.getOrLoad("k", () => Promise.resolve(2));
    await settle();
    select.resolve(1);
    await first;
    await runtime.clock.advance(20);
    assertEquals((await second).source, "redis");
    await a.close();
    await b.close();
  });

  it("takes the lease of an instance that died over when it runs out", async () => {
    const { runtime, server, b } = await openTwo();
    await server.connect("dead").acquire("k", "n1 ", undefined);
    await server.connect("dead").createTags(["*"], "");
    const reading = b.getOrLoad("k", () => Promise.resolve(2));
    await runtime.clock.advance(4_900);
    assertEquals(b.stats().loads, 0);
    await runtime.clock.advance(1_000);
    assertEquals((await reading).value(), 2);
    assertEquals(server.leases(), []);
    await b.close();
  });

  it("loads for itself, and stores nothing, when it has waited long enough", async () => {
    const runtime = new FakeRuntime();
    const server = new SimulatedServer({ clock: runtime.clock });
    const cache = new Cache({ ...options, runtime, waitMsMax: 500 }, server.connect("b"));
    const holder = server.connect("holder");
    await holder.createTags(["*"], "");
    await holder.acquire("k", "n1 ", undefined);
    const reading = cache.getOrLoad("k", () => Promise.resolve(2));
    await runtime.clock.advance(500);
    assertEquals((await reading).value(), 2);
    assertEquals(server.bytesOf("k"), undefined);
    await cache.close();
  });

  it("does not go on waiting where asking takes longer than a command may", async () => {
    const runtime = new FakeRuntime();
    const { clock } = runtime;
    const server = new SimulatedServer({ clock });
    const cache = new Cache({ ...options, runtime }, server.connect("b", { feed: false }));
    const holder = server.connect("holder");
    await holder.createTags(["*"], "");
    await holder.acquire("k", "n1 ", undefined);
    server.gate = () => new Promise((resolve) => clock.after(SLOW_STEP_MS, resolve));
    const load = Promise.withResolvers<number>();
    const readings = Array.from({ length: 10 }, () => cache.getOrLoad("k", () => load.promise));
    // Two look-ups, for the second was sent when the first had been answered.
    await clock.advance(2 * LOOK_UP_STEPS * SLOW_STEP_MS);
    load.resolve(2);
    for (const reading of readings) assertEquals((await reading).value(), 2);
    assertEquals(cache.stats().loads, 2); // the second of them was joined before it was sent
    assertEquals(server.bytesOf("k"), undefined);
    await clock.advance(1_000);
    await cache.close();
  });

  it("does not ask a slow Redis again and again for a key that changes all the time", async () => {
    const runtime = new FakeRuntime();
    const { clock } = runtime;
    const server = new SimulatedServer({ clock });
    const store = server.connect("a", { feed: false });
    const cache = new Cache({ ...options, runtime }, store);
    let acquired = 0;
    store.acquire = async () => {
      acquired++;
      await server.gate("acquire");
      // Not an entry, and another one each time.
      return {
        holder: "",
        stored: { entry: "truncated", mark: Uint8Array.of(acquired), bytes: 1 },
      };
    };
    assertEquals((await cache.getOrLoad("k", () => Promise.resolve(1))).value(), 1);
    assertGreater(acquired, 1);
    acquired = 0;
    server.gate = () => new Promise((resolve) => clock.after(2 * SLOW_STEP_MS, resolve));
    const reading = cache.getOrLoad("k", () => Promise.resolve(2));
    await clock.advance(1_000);
    assertEquals((await reading).value(), 2);
    assertEquals(acquired, 1);
    await cache.close();
  });

  it("stores what it has loaded although this process was busy when the first answer came", async () => {
    const runtime = new FakeRuntime();
    const { clock } = runtime;
    const server = new SimulatedServer({ clock });
    const store = server.connect("a", { feed: false });
    const cache = new Cache({ ...options, runtime }, store);
    const get = store.get.bind(store);
    store.get = async (key) => {
      await clock.advance(1_000); // a store that is late itself rejects
      return await get(key);
    };
    await cache.getOrLoad("k", () => Promise.resolve(1));
    await settle();
    assertEquals(server.bytesOf("k") === undefined, false);
    await cache.close();
  });

  it("gives back a lease whose acquisition seemed to fail, so that nobody waits for it", async () => {
    const runtime = new FakeRuntime();
    const server = new SimulatedServer({ clock: runtime.clock });
    // Calls 0 to 3: GET, the tag, the tag again, then the lease.
    const store = new FaultStore(server.connect("a", { feed: false }), { nth: 3, kind: "after" });
    const cache = new Cache({ ...options, runtime }, store);
    assertEquals((await cache.getOrLoad("k", () => Promise.resolve(1))).value(), 1);
    assertEquals(store.failed, ["acquire"]);
    await settle();
    assertEquals(server.leases(), []);
    await cache.close();
  });

  it("gives a lease back when Redis is there again, if it was away by then", async () => {
    const runtime = new FakeRuntime();
    const server = new SimulatedServer({ clock: runtime.clock });
    const inner = server.connect("a", { feed: false });
    inner.release = () => Promise.reject(new Error("Redis is away"));
    const store = new FaultStore(inner, { nth: 3, kind: "after" }); // the lease
    const cache = new Cache({ ...options, runtime }, store);
    assertEquals((await cache.getOrLoad("k", () => Promise.resolve(1))).value(), 1);
    await settle();
    assertEquals(server.leases().length, 1);
    await runtime.clock.advance(100);
    assertEquals(server.leases(), []);
    assertEquals(cache.stats().pendingInvalidations, 0);
    await cache.close();
  });

  it("gives back a lease under which it could not store, so that nobody waits for it", async () => {
    const runtime = new FakeRuntime();
    const server = new SimulatedServer({ clock: runtime.clock });
    // Call 4 is the fill.
    const store = new FaultStore(server.connect("a", { feed: false }), { nth: 4, kind: "before" });
    const cache = new Cache({ ...options, runtime }, store);
    assertEquals((await cache.getOrLoad("k", () => Promise.resolve(1))).value(), 1);
    await settle();
    assertEquals(store.failed, ["fill"]);
    assertEquals(server.leases(), []);
    await cache.close();
  });

  it("lets instances load beside each other when a value cannot be stored", async () => {
    const { runtime, server, a, b } = await openTwo();
    const select = Promise.withResolvers<number>();
    const load = () => Promise.resolve(2);
    const first = a.getOrLoad("k", () => select.promise, { ttlMs: 0 });
    await settle();
    const second = b.getOrLoad("k", load, { ttlMs: 0 }); // waits for the first
    await settle();
    assertEquals(b.stats().loads, 0);
    select.resolve(1);
    await settle();
    const never = a.getOrLoad("k", () => new Promise<number>(() => {}), { ttlMs: 0 });
    never.catch(() => {
      // Closing aborts it.
    });
    await runtime.clock.advance(30); // leases are not followed: the second finds the mark when it polls
    assertEquals([(await first).value(), (await second).value()], [1, 2]);
    assertEquals((await b.getOrLoad("k", load)).value(), 2); // whatever the first one does
    await runtime.clock.advance(2_000);
    await b.getOrLoad("k", load);
    await settle();
    assertEquals((await b.get("k"))?.value(), 2); // stored again
    assertEquals(server.leases(), []);
    const closing = Promise.all([a.close(), b.close()]);
    await runtime.clock.advance(1_000);
    await closing;
  });

  it("gives its leases back when it closes in mid-load", async () => {
    const { runtime, server, a, b } = await openTwo();
    const reading = a.getOrLoad("k", () => new Promise<number>(() => {}));
    reading.catch(() => {
      // Closing aborts it.
    });
    await settle();
    const closing = a.close();
    await runtime.clock.advance(1_000);
    await closing;
    assertEquals(server.leases(), []);
    await b.close();
    assertEquals(runtime.clock.timers, 0);
  });
});
