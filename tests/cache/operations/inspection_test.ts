import { assertEquals, assertGreater, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache, type HeldEntry } from "../../../cache/mod.ts";
import type { Store } from "../../../cache/store.ts";
import { FakeRuntime, settle } from "../../support/fake_runtime.ts";
import { FaultStore } from "../../support/fault_store.ts";
import { SimulatedServer } from "../../support/simulated_store.ts";

const TTL_MS = 60_000;
const GRACE_MS = 10_000;

interface Bench extends AsyncDisposable {
  readonly cache: Cache;
  readonly runtime: FakeRuntime;
}

async function open(wrap: (store: Store) => Store = (store) => store): Promise<Bench> {
  const runtime = new FakeRuntime();
  const server = new SimulatedServer({ clock: runtime.clock });
  const store = wrap(server.connect("a", { heartbeatMs: 250 }));
  const cache = new Cache({ runtime, ttlMs: TTL_MS, graceMs: GRACE_MS, jitterRatio: 0 }, store);
  await settle();
  return { cache, runtime, [Symbol.asyncDispose]: () => cache.close() };
}

async function fill(cache: Cache, value: unknown = { name: "Ada" }): Promise<void> {
  await cache.getOrLoad("a", () => Promise.resolve(value), { tags: ["t"] });
  await settle();
}

/** What a tier holds, but for its size. */
function withoutSize(held: HeldEntry | undefined): Partial<HeldEntry> | undefined {
  if (held === undefined) return undefined;
  const { bytes, ...rest } = held;
  assertEquals(bytes > 0, true);
  return rest;
}

describe("Cache.inspect()", () => {
  it("tells age, life left, size and tags of what each tier holds", async () => {
    await using bench = await open();
    const { cache, runtime } = bench;
    await fill(cache);
    await cache.get("a"); // installs it in memory
    await runtime.clock.advance(1_500);
    const { memory, redis, redisReached } = await cache.inspect("a");
    const expected = {
      negative: false,
      ageMs: 1_500,
      freshLeftMs: TTL_MS - 1_500,
      staleLeftMs: TTL_MS + GRACE_MS - 1_500,
      tags: ["t"],
      valid: true,
    };
    assertEquals([withoutSize(memory), withoutSize(redis)], [expected, expected]);
    assertEquals(redisReached, true);
    assertGreater(cache.stats().memory.bytes, memory?.bytes ?? Infinity); // the tags come on top
  });

  it("holds nothing of a key that nobody read, and tells a negative entry apart", async () => {
    await using bench = await open();
    const { cache } = bench;
    assertEquals(await cache.inspect("a"), {
      memory: undefined,
      redis: undefined,
      redisReached: true,
    });
    await fill(cache, null);
    assertEquals((await cache.inspect("a")).redis?.negative, true);
  });

  it("counts nothing and installs nothing", async () => {
    await using bench = await open();
    const { cache } = bench;
    await fill(cache);
    const before = cache.stats();
    for (let i = 0; i < 5; i++) await cache.inspect("a");
    await cache.inspect("b");
    assertEquals(cache.stats(), before);
  });

  it("keeps no entry from being evicted", async () => {
    await using cache = new Cache({ url: "memory:", memoryBytes: 2_000 });
    const read = (key: string) => cache.getOrLoad(key, () => Promise.resolve(key));
    await read("old");
    await read("new");
    await cache.inspect("old"); // a get() here would make "new" the one to go
    await read("newest");
    assertEquals([await cache.has("old"), await cache.has("new")], [false, true]);
  });

  it("says that an entry is no longer valid once its tag has changed, or nobody can tell", async () => {
    await using bench = await open();
    const { cache, runtime } = bench;
    await fill(cache);
    await cache.get("a");
    await cache.invalidateTags("t");
    const { memory, redis } = await cache.inspect("a");
    assertEquals([memory?.valid, redis?.valid], [false, false]);
    await fill(cache);
    await cache.get("a");
    assertEquals((await cache.inspect("a")).memory?.valid, true);
    runtime.clock.jump(5_000); // past the memory lease, without a sign of life
    assertEquals((await cache.inspect("a")).memory?.valid, false);
  });

  it("answers what memory holds when Redis cannot be asked", async () => {
    let failing = false;
    await using bench = await open((inner) => {
      const broken = new FaultStore(inner, { nth: 0, count: Infinity, kind: "before" });
      return new Proxy(inner, {
        get(target, name) {
          const from = failing && name === "get" ? broken : target;
          const value = Reflect.get(from, name);
          return typeof value === "function" ? value.bind(from) : value;
        },
      });
    });
    await fill(bench.cache);
    await bench.cache.get("a");
    failing = true;
    const { memory, redis, redisReached } = await bench.cache.inspect("a");
    assertEquals([memory?.valid, redis, redisReached], [true, undefined, false]);
  });

  it("refuses what is no key", async () => {
    await using bench = await open();
    await assertRejects(() => bench.cache.inspect("{a}"), TypeError, "as a key");
  });
});

describe("Cache.popular()", () => {
  it("tells the keys that are read most, most read first, as many as are asked for", async () => {
    await using bench = await open();
    const { cache } = bench;
    for (let i = 0; i < 3_000; i++) {
      const key = i % 10 === 0 ? "rare" : i % 3 === 0 ? "some" : "often";
      await cache.getOrLoad(key, () => Promise.resolve(1));
    }
    assertEquals(await cache.popular(2), ["often", "some"]);
    assertEquals(await cache.popular(0), []);
    for (const count of [-1, 1.5, NaN, Infinity]) {
      await assertRejects(() => cache.popular(count), RangeError, `Cannot list ${count} keys`);
    }
  });
});
