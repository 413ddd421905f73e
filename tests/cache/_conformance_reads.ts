import { assert, assertEquals, assertRejects } from "@std/assert";
import { it } from "@std/testing/bdd";
import { eventually } from "../../tools/servers/eventually.ts";
import type { Open } from "./_conformance_open.ts";

/** What reads promise. */
export function describeReads(open: Open): void {
  it("get() answers undefined for what nobody stored", async () => {
    await using cache = await open();
    assertEquals(await cache.get("a"), undefined);
    assertEquals(await cache.has("a"), false);
  });

  it("getOrLoad() loads once, and then answers from a tier", async () => {
    await using cache = await open();
    let loads = 0;
    const load = () => Promise.resolve({ n: ++loads });
    const first = await cache.getOrLoad("a", load);
    assertEquals([first.source, first.stale, first.value()], ["load", false, { n: 1 }]);
    await eventually(async () => assert(await cache.has("a")));
    const again = await cache.getOrLoad("a", load);
    assert(again.source !== "load");
    assertEquals(again.value(), { n: 1 });
    assert(again.freshUntilMs > Date.now());
  });

  it("getOrLoad() shares one load among all who ask while it runs", async () => {
    await using cache = await open();
    let loads = 0;
    const gate = Promise.withResolvers<string>();
    const load = () => (loads++, gate.promise);
    const reads = Array.from({ length: 100 }, () => cache.getOrLoad("a", load));
    await eventually(() => assertEquals(loads, 1));
    gate.resolve("x");
    assertEquals(new Set((await Promise.all(reads)).map((found) => found.value())), new Set(["x"]));
    assertEquals(loads, 1);
    assert(cache.stats().coalesced >= 98);
  });

  it("getMany() answers in the order of the keys, duplicates included", async () => {
    await using cache = await open();
    await cache.set("a", 1);
    await cache.set("b", 2);
    const found = await cache.getMany<number>(["b", "none", "a", "b"]);
    assertEquals(found.map((lookup) => lookup?.value()), [2, undefined, 1, 2]);
  });

  it("getOrLoadMany() loads what is missing, each key once, and answers in the order of the keys", async () => {
    await using cache = await open();
    await cache.set("b", "stored");
    const calls: string[][] = [];
    const load = (keys: readonly string[]) => {
      calls.push([...keys].sort());
      return Promise.resolve(
        new Map(keys.filter((key) => key !== "gone").map((key) => [key, key])),
      );
    };
    const found = await cache.getOrLoadMany(["c", "b", "a", "gone", "a"], load);
    assertEquals(found.map((lookup) => lookup.value()), ["c", "stored", "a", undefined, "a"]);
    // In one call, unless one of several servers is slow to say that it has nothing.
    assertEquals(calls.flat().sort(), ["a", "c", "gone"]);
    const loaded = calls.length;
    await eventually(async () => assertEquals((await cache.get("gone"))?.text, null));
    await eventually(async () => assert(await cache.has("a") && await cache.has("c")));
    await cache.getOrLoadMany(["c", "b", "a", "gone"], load);
    assertEquals(calls.length, loaded);
    assertEquals(await cache.getOrLoadMany([], load), []);
  });

  it("getOrLoadMany() passes the loader's error on, unchanged", async () => {
    await using cache = await open();
    const error = new Error("no database");
    const failed = await assertRejects(() =>
      cache.getOrLoadMany(["a", "b"], () => Promise.reject(error))
    );
    assert(failed === error);
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve(1))).value(), 1);
  });

  it("counts what each tier did", async () => {
    await using cache = await open();
    await cache.getOrLoad("a", () => Promise.resolve(1));
    await eventually(async () => assert(await cache.has("a")));
    await cache.getOrLoad("a", () => Promise.resolve(1));
    const { memory, redis, loads, loadLatency, pendingInvalidations, breaker } = cache.stats();
    assertEquals([loads, loadLatency.count, pendingInvalidations, breaker], [1, 1, 0, "closed"]);
    assert(memory.hits + redis.hits >= 2);
    assert(memory.misses >= 1);
    assert(memory.hitRate >= 0 && memory.hitRate < 1);
  });
}

/** Which values come back as they were. */
export function describeValues(open: Open): void {
  const values: Readonly<Record<string, unknown>> = {
    "zero": 0,
    "false": false,
    "the empty string": "",
    "an empty list": [],
    "text beyond Latin-1": "naïve ☃ 🂡 \u2028 \ud800 é",
    "nested data": { a: [1, { b: null }], c: "d" },
    "what pays to compress": { bio: "lorem ipsum ".repeat(1_000) },
    "what does not": Array.from({ length: 2_000 }, (_, i) => Math.sin(i)),
    "a megabyte": "x".repeat(1024 * 1024),
  };
  for (const [name, value] of Object.entries(values)) {
    it(`answers ${name} as it was loaded and as it was set`, async () => {
      await using cache = await open();
      await cache.getOrLoad("loaded", () => Promise.resolve(value));
      assertEquals(await cache.set("set", value), "applied");
      for (const key of ["loaded", "set"]) {
        await eventually(async () => assertEquals((await cache.get(key))?.value(), value));
        assertEquals((await cache.get(key))?.text, JSON.stringify(value));
      }
    });
  }

  it("remembers that a value does not exist, null and undefined alike", async () => {
    await using cache = await open();
    for (const nothing of [null, undefined]) {
      const key = `k:${nothing}`;
      const first = await cache.getOrLoad<number>(key, () => Promise.resolve(nothing));
      assertEquals([first.text, first.value()], [null, undefined]);
      await eventually(async () => assertEquals((await cache.get(key))?.text, null));
      assertEquals(await cache.has(key), false);
      const again = await cache.getOrLoad<number>(key, () => Promise.reject(new Error("asked")));
      assertEquals(again.value(), undefined);
    }
    assert(cache.stats().negativeHits >= 2);
  });

  it("keeps keys apart that differ in anything", async () => {
    await using cache = await open();
    const keys = ["a", "A", "a:lease", "a:tag", "*", "ä", "a ", " a", "🂡", "x".repeat(200)];
    for (const key of keys) await cache.set(key, key);
    const found = await cache.getMany(keys);
    assertEquals(found.map((lookup) => lookup?.value()), keys);
  });
}
