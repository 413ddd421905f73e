import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache, type CacheOptions, type EntryOptions } from "../../cache/mod.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { requiredEnv } from "../support/test_database.ts";

interface Order {
  readonly customer: number;
  readonly total: number;
}

const options: EntryOptions<Order> = { tagsOf: ({ customer }) => [`customer:${customer}`] };

/** A row, a cache that reads it, and how often it was loaded. */
function openReader(cacheOptions: CacheOptions = {}, row: Order = { customer: 7, total: 1 }) {
  const cache = new Cache(cacheOptions);
  const database = { row, loads: 0 };
  const read = () =>
    cache.getOrLoad("order", () => {
      database.loads++;
      return Promise.resolve(database.row);
    }, options);
  return { cache, database, read };
}

describe("the option tagsOf", () => {
  it("ends an entry with the tags of its value, from the second load on", async () => {
    const { cache, database, read } = openReader();
    await using _ = cache;
    const [first, second] = [await read(), await read()];
    assertEquals([first.source, second.source], ["load", "load"]);
    assertEquals([first.freshUntilMs > 0, second.freshUntilMs > 0], [false, true]); // stored or not
    assertEquals((await read()).source, "memory");
    assertEquals(database.loads, 2);
    await cache.invalidateTags("customer:8");
    assertEquals((await read()).source, "memory");
    for (const end of [() => cache.invalidateTags("customer:7"), () => cache.delete("order")]) {
      database.row = { customer: 7, total: database.row.total + 1 };
      await end();
      assertEquals((await read()).value(), database.row);
      assertEquals((await read()).source, "memory"); // a write costs one load
    }
  });

  it("does not keep what was read before its tags were invalidated", async () => {
    await using cache = new Cache();
    const loaded = Promise.withResolvers<Order>();
    const early = cache.getOrLoad("order", () => loaded.promise, options);
    await cache.invalidateTags("customer:7"); // after the query, before its tags are known
    loaded.resolve({ customer: 7, total: 1 });
    assertEquals((await early).value()?.total, 1);
    const later = await cache.getOrLoad(
      "order",
      () => Promise.resolve({ customer: 7, total: 2 }),
      options,
    );
    assertEquals(later.value()?.total, 2);
  });

  it("follows a value whose tags change", async () => {
    const { cache, database, read } = openReader();
    await using _ = cache;
    for (let i = 0; i < 3; i++) await read();
    database.row = { customer: 8, total: 2 };
    await cache.invalidateTags("customer:7");
    assertEquals([(await read()).source, (await read()).source], ["load", "load"]);
    assertEquals((await read()).source, "memory");
    await cache.invalidateTags("customer:7");
    assertEquals((await read()).source, "memory");
    await cache.invalidateTags("customer:8");
    assertEquals((await read()).source, "load");
  });

  it("works across processes, which know the tags of an entry by itself", async () => {
    const common = { url: requiredEnv("REDIS_URL"), prefix: `t${crypto.randomUUID().slice(0, 8)}` };
    const [one, other] = [openReader(common), openReader(common)];
    await using _one = one.cache;
    await using _other = other.cache;
    await eventually(async () => assertEquals((await one.read()).source, "memory"));
    await eventually(async () => assertEquals((await other.read()).source, "memory"));
    other.database.row = one.database.row = { customer: 7, total: 2 };
    await one.cache.invalidateTags("customer:7");
    const loads = other.database.loads;
    await eventually(async () => assertEquals((await other.read()).value()?.total, 2));
    await eventually(async () => assertEquals((await one.read()).value()?.total, 2));
    assert(other.database.loads <= loads + 1, "the first load after it is kept");
    await eventually(async () => assertEquals((await one.read()).source, "memory"));
  });

  it("tags what is set, and refreshed, and filled", async () => {
    await using cache = new Cache();
    const has = () => cache.has("order");
    await cache.set("order", { customer: 7, total: 1 }, options);
    await cache.invalidateTags("customer:7");
    assertEquals(await has(), false);
    const slot = await cache.begin<Order>("order", options);
    assertEquals(await slot.fill({ customer: 7, total: 1 }), true); // the entry before it told
    await cache.invalidateTags("customer:7");
    assertEquals(await has(), false);
    await cache.getOrLoad("order", () => Promise.resolve({ customer: 7, total: 2 }), {
      ...options,
      refresh: true,
    });
    assertEquals(await has(), true);
    await cache.invalidateTags("customer:7");
    assertEquals(await has(), false);
  });

  it("is refused where it names what cannot be a tag", async () => {
    await using cache = new Cache();
    for (const tags of [["*"], ["{"], Array.from({ length: 17 }, (_, i) => `t${i}`)]) {
      const read = () => cache.getOrLoad("a", () => Promise.resolve(1), { tagsOf: () => tags });
      await assertRejects(read, TypeError);
      await assertRejects(() => cache.set("a", 1, { tagsOf: () => tags }), TypeError);
    }
    const tagsOf = () => {
      throw new Error("tagsOf");
    };
    await assertRejects(() => cache.set("a", 1, { tagsOf }), Error, "tagsOf");
    assertEquals(cache.stats().pendingInvalidations, 0); // they would stop all reads meanwhile
  });
});
