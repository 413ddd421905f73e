import { assert, assertEquals, assertGreater, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache, type CacheEvent, type CacheOptions } from "../../cache/mod.ts";
import { encodeEntry, FORMAT } from "../../cache/entry.ts";
import type { Store } from "../../cache/store.ts";
import { changesThat } from "./redis/nodes.ts";
import { FakeRuntime, settle } from "../support/fake_runtime.ts";
import { SimulatedServer } from "../support/simulated_store.ts";

/** A cache on a simulated Redis, and what it told. */
async function open(options: CacheOptions = {}, overrides: Partial<Store> = {}) {
  const runtime = new FakeRuntime();
  const server = new SimulatedServer({ clock: runtime.clock });
  const store: Store = Object.assign(server.connect("a"), overrides);
  const events: CacheEvent[] = [];
  const onEvent = (event: CacheEvent) => void events.push(event);
  const memoryBytes = 64 * 1024;
  const cache = new Cache({ runtime, onEvent, memoryBytes, jitterRatio: 0, ...options }, store);
  await settle();
  events.length = 0;
  return { cache, runtime, server, events };
}

const one = () => Promise.resolve(1);

describe("Cache, events", () => {
  it("tells of a fill, with what it cost and how long it lives", async () => {
    const { cache, events } = await open({ ttlMs: 1_000, graceMs: 500 });
    await cache.getOrLoad("a", one);
    await settle();
    assertEquals(events, [{ type: "fill", key: "a", ttlMs: 1_500, costMs: 0 }]);
    await cache.close();
  });

  it("tells of a fill that was refused", async () => {
    const { cache, events } = await open();
    const select = Promise.withResolvers<number>();
    const reading = cache.getOrLoad("a", () => select.promise);
    await settle();
    await cache.delete("a");
    select.resolve(1);
    await reading;
    await settle();
    assertEquals(events, [
      { type: "invalidate", keys: ["a"], pending: false },
      { type: "fill-refused", key: "a" },
    ]);
    await cache.close();
  });

  it("tells of invalidations, and whether they are owed", async () => {
    const down = () => Promise.reject(new Error("down"));
    const { cache, events } = await open({}, { invalidate: down, writeTags: down });
    assertEquals(await cache.delete("a", "b"), "pending");
    assertEquals(await cache.invalidateTags("t"), "pending");
    assertEquals(await cache.clear(), "pending");
    assertEquals(events, [
      { type: "invalidate", keys: ["a", "b"], pending: true },
      { type: "invalidate-tags", tags: ["t"], pending: true },
      { type: "clear", pending: true },
    ]);
    assertEquals(cache.stats().pendingInvalidations, 4);
    await cache.close();
  });

  it("tells of a load that failed, and of a refresh that did", async () => {
    const { cache, events, runtime } = await open({ ttlMs: 1_000 });
    const error = new Error("no database");
    await assertRejects(() => cache.getOrLoad("a", () => Promise.reject(error)));
    assertEquals(events, [{ type: "load-error", key: "a", error }]);
    await cache.getOrLoad("b", one);
    await runtime.clock.advance(1_000);
    events.length = 0;
    await cache.getOrLoad("b", () => Promise.reject(error));
    await settle();
    assertEquals(events, [
      { type: "load-error", key: "b", error },
      { type: "refresh-error", key: "b", error },
    ]);
    await cache.close();
  });

  const entry = {
    text: "1",
    loadedAtMs: 0,
    freshUntilMs: 1e15,
    staleUntilMs: 1e15,
    costMs: 0,
    tags: [],
  };
  const good = encodeEntry(entry, Infinity);
  const newer = Uint8Array.from(good);
  newer[0] = FORMAT + 1;
  const unreadable: readonly (readonly [string, Uint8Array, string])[] = [
    ["nothing, as of a foreign type", new Uint8Array(0), "truncated"],
    [
      "garbage",
      new TextEncoder().encode("Redis was here, and left this behind for you"),
      "format 82",
    ],
    ["half a header", good.subarray(0, 20), "truncated"],
    ["half a payload", good.subarray(0, good.length - 1), "truncated"],
    ["a newer format", newer, `format ${FORMAT + 1}`],
  ];
  for (const [name, bytes, reason] of unreadable) {
    it(`counts ${name} as a miss, tells why, and stores over it`, async () => {
      const { cache, events, server } = await open();
      server.plant("a", bytes);
      assertEquals(await cache.get("a"), undefined);
      assertEquals(events, [{ type: "unreadable", key: "a", reason }]);
      assertEquals((await cache.getOrLoad("a", one)).value(), 1);
      await settle();
      assertEquals((await cache.getOrLoad("a", one)).source, "redis");
      assert(cache.stats().unreadable >= 2);
      await cache.close();
    });
  }

  it("tells the same error of a server once a minute, and no more than 100 within one", async () => {
    let tried = 0;
    let reason = () => `ERR unknown command 'GET', with args beginning with: '${tried}'`;
    const changes = changesThat(() => {
      tried++;
      return Promise.reject(new Error(reason()));
    });
    const { cache, runtime, events } = await open({ changes });
    const told = () =>
      events.flatMap((event) => event.type === "catch-up-error" ? [`${event.error}`] : []);
    await runtime.clock.advance(59_000);
    assertGreater(tried, 100);
    assertEquals(told(), []); // that of the start has been told
    await runtime.clock.advance(5_000);
    assertEquals(told().length, 1);
    reason = () => `down ${tried}`;
    await runtime.clock.advance(55_000);
    assertEquals(told().length, 100);
    assertEquals(new Set(told()).size, 100);
    const closing = cache.close();
    await runtime.clock.advance(5_000);
    await closing;
  });

  it("drops everything when Redis announces that all was deleted", async () => {
    const { cache, server } = await open();
    for (let i = 0; i < 2; i++) {
      await cache.getOrLoad("a", one);
      await settle();
    }
    assertEquals(cache.stats().memory.entries, 1);
    server.flush();
    await settle();
    assertEquals(cache.stats().memory.entries, 0);
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve(2))).value(), 2);
    await cache.close();
  });
});
