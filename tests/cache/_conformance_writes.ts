import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { it } from "@std/testing/bdd";
import { eventually } from "../../tools/servers/eventually.ts";
import type { EntryOptions } from "../../cache/mod.ts";
import type { Open } from "./_conformance_open.ts";

/** What writes promise. */
export function describeWrites(open: Open): void {
  it("set() replaces, and its value is what the next read answers", async () => {
    await using cache = await open();
    assertEquals(await cache.set("a", 1), "applied");
    assertEquals((await cache.get("a"))?.value(), 1);
    await cache.set("a", 2);
    assertEquals((await cache.get("a"))?.value(), 2);
  });

  it("set() is not overwritten by a load that began before it", async () => {
    await using cache = await open();
    const select = Promise.withResolvers<number>();
    let loading = false;
    const reading = cache.getOrLoad("a", () => (loading = true, select.promise));
    await eventually(() => assert(loading));
    await cache.set("a", 2);
    select.resolve(1);
    assertEquals((await reading).value(), 1);
    await eventually(() => assertEquals(cache.stats().refusedFills, 1));
    assertEquals((await cache.get("a"))?.value(), 2);
  });

  it("delete() leaves nothing of the keys it names, and all others", async () => {
    await using cache = await open();
    for (const key of ["a", "b", "c"]) await cache.set(key, key);
    assertEquals(await cache.delete("a", "b"), "applied");
    const found = await cache.getMany(["a", "b", "c"]);
    assertEquals(found.map((lookup) => lookup?.value()), [undefined, undefined, "c"]);
    assertEquals(await cache.delete("a"), "applied");
    assertEquals(await cache.delete(), "applied");
  });

  it("delete() and invalidateTags() take lists, of any length", async () => {
    await using cache = await open();
    const keys = Array.from({ length: 50 }, (_, i) => `k${i}`);
    for (const key of keys) await cache.set(key, 1, { tags: [`tag of ${key}`] });
    assertEquals(await cache.delete(keys.slice(0, 20), "k20"), "applied");
    const found = await cache.getMany(keys);
    assertEquals(found.filter((lookup) => lookup !== undefined).length, 29);
    assertEquals(await cache.invalidateTags(keys.map((key) => `tag of ${key}`)), "applied");
    assertEquals(await cache.get("k30"), undefined);
  });

  it("delete() voids the load under way: its callers are answered, nothing is stored", async () => {
    await using cache = await open();
    const select = Promise.withResolvers<number>();
    let loading = false;
    const before = cache.getOrLoad("a", () => (loading = true, select.promise));
    await eventually(() => assert(loading));
    await cache.delete("a");
    const after = await cache.getOrLoad("a", () => Promise.resolve(2));
    assertEquals(after.value(), 2);
    select.resolve(1);
    assertEquals((await before).value(), 1);
    await eventually(() => assertEquals(cache.stats().refusedFills, 1));
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve(3))).value(), 2);
  });

  it("invalidateTags() invalidates every entry of a tag, loaded or set, and no other", async () => {
    await using cache = await open();
    const page = (n: number) => `page:${n}`;
    for (let n = 0; n < 20; n++) {
      await cache.getOrLoad(page(n), () => Promise.resolve(n), { tags: ["users", `t${n}`] });
    }
    await cache.set("set", 1, { tags: ["users"] });
    await cache.set("other", 1, { tags: ["posts"] });
    await eventually(async () => assert(await cache.has(page(19))));
    assertEquals(await cache.invalidateTags("users"), "applied");
    for (let n = 0; n < 20; n++) assertEquals(await cache.get(page(n)), undefined);
    assertEquals(await cache.get("set"), undefined);
    assertEquals((await cache.get("other"))?.value(), 1);
    assertEquals(await cache.invalidateTags("posts", "nobody's"), "applied");
    assertEquals(await cache.get("other"), undefined);
  });

  it("invalidateTags() voids the loads under way, and nobody joins them", async () => {
    await using cache = await open();
    const select = Promise.withResolvers<number>();
    let loading = false;
    const options = { tags: ["users"] };
    const before = cache.getOrLoad("a", () => (loading = true, select.promise), options);
    await eventually(() => assert(loading));
    await cache.invalidateTags("users");
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve(2), options)).value(), 2);
    select.resolve(1);
    assertEquals((await before).value(), 1);
    await eventually(() => assertEquals(cache.stats().refusedFills, 1));
    assertEquals((await cache.get("a"))?.value(), 2);
  });

  it("takes tags in any script, as long as keys may be", async () => {
    await using cache = await open();
    const tag = "標".repeat(200);
    await cache.getOrLoad("a", () => Promise.resolve(1), { tags: [tag] });
    await eventually(async () => assert(await cache.has("a")));
    await cache.invalidateTags(tag);
    assertEquals(await cache.has("a"), false);
  });

  it("clear() leaves nothing, and takes new entries at once", async () => {
    await using cache = await open();
    await cache.set("a", 1);
    await cache.set("b", 1, { tags: ["t"] });
    assertEquals(await cache.clear(), "applied");
    assertEquals(await cache.getMany(["a", "b"]), [undefined, undefined]);
    await cache.set("a", 2);
    assertEquals((await cache.get("a"))?.value(), 2);
  });

  it("clear() of one prefix or version leaves the others", async () => {
    await using cache = await open();
    await using other = await open({ version: 2 });
    await cache.set("a", 1);
    await other.set("a", 2);
    await cache.clear();
    assertEquals(await cache.get("a"), undefined);
    assertEquals((await other.get("a"))?.value(), 2);
  });
}

/** What callers get who do more than read and write. */
export function describeSlots(open: Open): void {
  it("begin() finds what is stored, and stores what its caller puts", async () => {
    await using cache = await open();
    const slot = await cache.begin<string[]>("a", { tags: ["users"] });
    assertEquals([slot.hit, slot.value()], [false, undefined]);
    assertEquals(await slot.fill(["Ada"]), true);
    assertEquals(await slot.fill(["Bob"]), false); // once
    const found = await cache.begin<string[]>("a");
    assertEquals([found.hit, found.value()], [true, ["Ada"]]);
    assertEquals(await found.fill(["Bob"]), false);
    await cache.invalidateTags("users");
    assertEquals((await cache.begin("a")).hit, false);
  });

  it("begin() refuses what was got before an invalidation, and lets one caller put", async () => {
    await using cache = await open();
    const invalidations = [
      () => cache.delete("a"),
      () => cache.invalidateTags("users"),
      () => cache.clear(),
      () => cache.set("a", 2, { tags: ["users"] }),
    ];
    for (const invalidate of invalidations) {
      await cache.delete("a");
      const slot = await cache.begin<number>("a", { tags: ["users"] });
      await invalidate();
      await slot.fill(1);
      assert((await cache.get("a"))?.value() !== 1, String(invalidate));
    }
    await cache.delete("a");
    const [first, second] = [await cache.begin<number>("a"), await cache.begin<number>("a")];
    assertEquals([await second.fill(2), await first.fill(1)], [false, true]);
  });

  it("begin() gives its right back at the end of a block", async () => {
    await using cache = await open();
    {
      await using slot = await cache.begin<number>("a");
      assertEquals(slot.hit, false);
    }
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve(1))).value(), 1);
    await eventually(async () => assert(await cache.has("a")));
  });

  it("begin() with refresh finds nothing, and replaces what is stored", async () => {
    await using cache = await open();
    await cache.set("a", 1);
    await cache.begin("a"); // it is in memory now, if there is one
    const slot = await cache.begin<number>("a", { refresh: true });
    assertEquals([slot.hit, await slot.fill(2)], [false, true]);
    assertEquals((await cache.get("a"))?.value(), 2);
  });

  it("begin() gives its right back after a value that cannot be stored", async () => {
    await using cache = await open();
    const refused: readonly [unknown, EntryOptions][] = [
      [1n, {}],
      [1, { ttlMs: () => NaN }],
      [1, { tagsOf: () => ["*"] }],
    ];
    for (const [value, options] of refused) {
      const slot = await cache.begin("a", options);
      await assertRejects(() => slot.fill(value));
      const next = await cache.begin("a");
      assertEquals(await next.fill(2), true);
      await cache.delete("a");
    }
  });

  it("refresh loads whatever is stored, and no read after it gets what was there before", async () => {
    await using cache = await open();
    for (let n = 1; n <= 3; n++) {
      const load = () => Promise.resolve(n);
      assertEquals((await cache.getOrLoad("a", load, { refresh: true })).value(), n);
      for (let read = 0; read < 3; read++) assertEquals((await cache.get("a"))?.value(), n);
    }
    const [again] = await cache.getOrLoadMany(["a"], () => Promise.resolve(new Map([["a", 4]])), {
      refresh: true,
    });
    assertEquals([again?.value(), (await cache.get("a"))?.value()], [4, 4]);
  });

  it("expire() leaves a value its grace, and the next read loads behind it with the old one at hand", async () => {
    await using cache = await open();
    await cache.set("a", { n: 1 }, { graceMs: 60_000 });
    await cache.set("b", 1, { graceMs: 0 });
    assertEquals(await cache.expire(["a", "b"], "c"), "applied");
    assertEquals((await cache.get("a"))?.stale, true);
    assertEquals(await cache.get("b"), undefined);
    const seen: unknown[] = [];
    const load = (
      { stale }: { readonly stale?: unknown },
    ) => (seen.push(stale), Promise.resolve({ n: 2 }));
    const stale = await cache.getOrLoad("a", load);
    assertEquals([stale.value(), stale.stale], [{ n: 1 }, true]);
    await eventually(async () => assertEquals((await cache.get("a"))?.value(), { n: 2 }));
    assertEquals(seen, [{ n: 1 }]);
    await cache.getOrLoad("d", load);
    assertEquals(seen, [{ n: 1 }, undefined]);
  });

  it("hands the work that is left over to its owner", async () => {
    const works: Promise<void>[] = [];
    await using cache = await open({ background: (work) => void works.push(work) });
    await cache.getOrLoad("a", () => Promise.resolve(1));
    assert(works.length > 0);
    await Promise.all(works);
    assert(await cache.has("a"));
  });
}

/** How long entries live. */
export function describeTtls(open: Open): void {
  const expired = { deadlineMs: 5_000 };

  it("ttlMs 0 stores nothing, and set() with it removes", async () => {
    await using cache = await open();
    let loads = 0;
    const load = () => Promise.resolve(++loads);
    await cache.getOrLoad("a", load, { ttlMs: 0 });
    await cache.getOrLoad("a", load, { ttlMs: 0 });
    assertEquals(loads, 2);
    assertEquals(await cache.has("a"), false);
    await cache.set("b", 1);
    await cache.set("b", 2, { ttlMs: 0 });
    assertEquals(await cache.has("b"), false);
  });

  it("an entry ends with its TTL where it has no grace", async () => {
    await using cache = await open({ jitterRatio: 0 });
    await cache.set("a", 1, { ttlMs: 150, graceMs: 0 });
    assertEquals((await cache.get("a"))?.value(), 1);
    await eventually(async () => assertEquals(await cache.get("a"), undefined), expired);
  });

  it("get() answers a value in its grace, marked stale", async () => {
    await using cache = await open({ jitterRatio: 0 });
    await cache.set("a", 1, { ttlMs: 100, graceMs: 60_000 });
    await eventually(async () => assertEquals((await cache.get("a"))?.stale, true), expired);
    assertEquals((await cache.get("a"))?.value(), 1);
  });

  it("getOrLoad() answers a value in its grace at once, and loads behind it", async () => {
    await using cache = await open({ jitterRatio: 0 });
    await cache.set("a", 1, { ttlMs: 50, graceMs: 60_000 });
    await eventually(async () => assertEquals((await cache.get("a"))?.stale, true), expired);
    const stale = await cache.getOrLoad("a", () => Promise.resolve(2), { ttlMs: 60_000 });
    assertEquals([stale.value(), stale.stale], [1, true]);
    await eventually(async () => assertEquals((await cache.get("a"))?.value(), 2), expired);
  });

  it("a TTL can be read off the value", async () => {
    await using cache = await open({ jitterRatio: 0 });
    const ttlMs = (value: { maxAge: number }) => value.maxAge * 1_000;
    const short = await cache.getOrLoad("a", () => Promise.resolve({ maxAge: 7 }), { ttlMs });
    const leftMs = short.freshUntilMs - Date.now();
    assert(leftMs > 5_000 && leftMs <= 7_000, `${leftMs}`);
    await cache.getOrLoad("b", () => Promise.resolve({ maxAge: 0 }), { ttlMs });
    assertEquals(await cache.has("b"), false);
  });

  it("a TTL read off a value that is over is answered and not stored, and one without end is cut", async () => {
    await using cache = await open({ memoryBytes: 1024 * 1024 });
    const past = await cache.getOrLoad("a", () => Promise.resolve(1), { ttlMs: () => -5 });
    assertEquals(past.value(), 1);
    assertEquals(await cache.has("a"), false);
    for (const endless of [Infinity, 1e300]) {
      assertEquals(await cache.set("b", endless, { ttlMs: endless, graceMs: endless }), "applied");
      assertEquals((await cache.get("b"))?.stale, false);
      await cache.set("b", endless, { ttlMs: () => endless });
      assertEquals((await cache.get("b"))?.stale, false);
    }
    assertEquals(cache.stats().redisErrors, 0);
  });

  it("set() makes the entry once: one JSON text, one call of ttlMs", async () => {
    await using cache = await open();
    const calls: string[] = [];
    const value = { toJSON: () => (calls.push("toJSON"), 1) };
    await cache.set("a", value, { ttlMs: () => (calls.push("ttlMs"), 60_000) });
    assertEquals(calls, ["toJSON", "ttlMs"]);
    assertEquals((await cache.get("a"))?.text, "1");
  });

  it("set() refuses a value of more than 8 MiB, and a load answers it without storing it", async () => {
    await using cache = await open({ memoryBytes: 64 * 1024 * 1024 });
    const large = "x".repeat(8 * 1024 * 1024);
    await cache.set("a", 1);
    const error = await assertRejects(() => cache.set("a", large), RangeError);
    assertMatch(error.message, /^Cannot store a: its JSON takes more than 8388608 bytes/);
    assertEquals((await cache.get("a"))?.value(), 1);
    const lookup = await cache.getOrLoad("b", () => Promise.resolve(large));
    assertEquals(lookup.value()?.length, large.length);
    await eventually(() => assertEquals(cache.stats().loads, 1));
    assertEquals(await cache.has("b"), false);
  });

  it("names the key of a value that has no JSON, and says why it has none", async () => {
    await using cache = await open();
    const itself: { self?: unknown } = {};
    itself.self = itself;
    const values: Readonly<Record<string, unknown>> = {
      "^Cannot store a: .*BigInt.* codec": { total: 2n },
      "^Cannot store a: .*circular.* codec": itself,
      "^Cannot store a: its value has no JSON form$": Symbol("s"),
      "^Cannot store a: its value is a promise": { then: () => undefined },
    };
    for (const [message, value] of Object.entries(values)) {
      const error = await assertRejects(() => cache.set("a", value), TypeError);
      assertMatch(error.message, new RegExp(message, "s"));
      if ("then" in Object(value)) continue; // of which a loader cannot return one
      const read = () => cache.getOrLoad("a", () => Promise.resolve(value));
      assertMatch((await assertRejects(read, TypeError)).message, new RegExp(message, "s"));
    }
  });

  it("a negative entry has its own TTL, and no grace", async () => {
    await using cache = await open({ negativeTtlMs: 100, jitterRatio: 0 });
    let loads = 0;
    const load = () => (loads++, Promise.resolve(null));
    await cache.getOrLoad("a", load);
    await eventually(() =>
      cache.getOrLoad("a", load).then(({ source }) => assert(source !== "load"))
    );
    const before = loads;
    await eventually(async () => {
      await cache.getOrLoad("a", load);
      assert(loads > before);
    }, expired);
  });
}
