import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { it } from "@std/testing/bdd";
import { Cache, CacheClosedError, LoadRejectedError, LoadTimeoutError } from "../../cache/mod.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import type { Open } from "./_conformance_open.ts";

/** What loaders may rely on. */
export function describeLoads(open: Open): void {
  it("getOrLoad() passes the loader's error on unchanged, and remembers nothing of it", async () => {
    await using cache = await open();
    const error = new RangeError("no such row");
    for (
      const fail of [() => Promise.reject(error), () => {
        throw error;
      }]
    ) assert(await assertRejects(() => cache.getOrLoad("a", fail)) === error);
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve(1))).value(), 1);
    assertEquals(cache.stats().loadErrors, 2);
  });

  it("an error of the loader reaches everyone who shares the load", async () => {
    await using cache = await open();
    const select = Promise.withResolvers<number>();
    let loads = 0;
    const load = () => (loads++, select.promise);
    const reads = Array.from({ length: 10 }, () => cache.getOrLoad("a", load));
    await eventually(() => assertEquals(cache.stats().coalesced, 9));
    const error = new Error("gone");
    select.reject(error);
    for (const outcome of await Promise.allSettled(reads)) {
      assert(outcome.status === "rejected" && outcome.reason === error);
    }
    assertEquals(loads, 1);
  });

  it("refuses a load past the bound with LoadRejectedError, and takes it when there is room", async () => {
    await using cache = await open({ loadsMax: 1, loadsWaitingMax: 1 });
    const select = Promise.withResolvers<number>();
    let running = 0;
    const load = () => (running++, select.promise);
    const first = cache.getOrLoad("a", load);
    await eventually(() => assertEquals(running, 1));
    const second = cache.getOrLoad("b", load);
    await eventually(() => assertEquals(cache.stats().loads, 2));
    await assertRejects(() => cache.getOrLoad("c", load), LoadRejectedError);
    select.resolve(1);
    await Promise.all([first, second]);
    assertEquals((await cache.getOrLoad("c", () => Promise.resolve(3))).value(), 3);
    assertEquals(cache.stats().rejectedLoads, 1);
  });

  it("ends a load at its deadline with LoadTimeoutError, and tells its signal", async () => {
    await using cache = await open({ loadTimeoutMs: 50 });
    let reason: unknown;
    const load = ({ signal }: { signal: AbortSignal }) =>
      new Promise<number>((_, reject) =>
        signal.addEventListener("abort", () => {
          reason = signal.reason;
          reject(signal.reason);
        })
      );
    const error = await assertRejects(() => cache.getOrLoad("a", load), LoadTimeoutError);
    assert(reason === error);
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve(1))).value(), 1);
  });

  it("tells what happened: fills, invalidations, load errors", async () => {
    const events: string[] = [];
    await using cache = await open({ onEvent: ({ type }) => void events.push(type) });
    await cache.getOrLoad("a", () => Promise.resolve(1));
    await eventually(() => assert(events.includes("fill")));
    await cache.delete("a");
    await cache.invalidateTags("t");
    await cache.clear();
    await assertRejects(() => cache.getOrLoad("a", () => Promise.reject(new Error("x"))));
    for (const type of ["invalidate", "invalidate-tags", "clear", "load-error"]) {
      assert(events.includes(type), type);
    }
  });

  it("tells of each read that was answered, if asked to", async () => {
    const seen: string[] = [];
    await using cache = await open({ onLookup: ({ key, source }) => void seen.push(key + source) });
    await cache.getOrLoad("a", () => Promise.resolve(1));
    assertEquals(seen, ["aload"]);
    await eventually(async () => assert(await cache.has("a")));
    seen.length = 0;
    const load = (keys: readonly string[]) => Promise.resolve(new Map(keys.map((key) => [key, 1])));
    const [first] = await cache.getOrLoadMany(["a", "b"], load);
    assertEquals(seen.sort(), [`a${first?.source}`, "bload"]);
    seen.length = 0;
    await cache.getMany(["a", "nothing"]);
    await cache.get("a");
    assertEquals(seen.map((read) => read[0]), ["a", "a"]);
  });

  it("goes on when a handler throws, and counts that", async () => {
    const fail = () => {
      throw new Error("a bug of the owner");
    };
    await using cache = await open({ onLookup: fail, onEvent: fail });
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve(1))).value(), 1);
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve(2))).value(), 1);
    assertEquals(await cache.delete("a"), "applied");
    const error = new Error("no row");
    assert(await assertRejects(() => cache.getOrLoad("a", () => Promise.reject(error))) === error);
    assert(cache.stats().handlerErrors >= 4);
  });

  it("goes on when an asynchronous handler rejects, and counts that", async () => {
    const fail = () => Promise.reject(new Error("a bug of the owner"));
    await using cache = await open({ onLookup: fail, onEvent: fail, background: fail });
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve(1))).value(), 1);
    assertEquals(await cache.delete("a"), "applied");
    await eventually(() => assert(cache.stats().handlerErrors >= 3));
  });

  it("with enabled false every read loads and nothing is stored", async () => {
    await using cache = new Cache({ enabled: false });
    let loads = 0;
    const load = () => Promise.resolve(++loads);
    await cache.getOrLoad("a", load);
    assertEquals((await cache.getOrLoad("a", load)).value(), 2);
    assertEquals(await cache.has("a"), false);
  });
}

/** What is refused. */
export function describeMisuse(open: Open): void {
  const bad = ["", "x".repeat(201), "a{b", "a}b", "a\nb", "a\u0000", "\u007f", "\ud800"];
  it("refuses keys and tags that can't be used, before anything is touched", async () => {
    await using cache = await open();
    await cache.set("a", 1);
    for (const key of bad) {
      const error = await assertRejects(() => cache.get(key), TypeError);
      assertMatch(error.message, /^Cannot use /);
      await assertRejects(() => cache.set(key, 1), TypeError);
      await assertRejects(() => cache.getOrLoad(key, () => Promise.resolve(1)), TypeError);
      await assertRejects(() => cache.delete("a", key), TypeError);
      await assertRejects(() => cache.invalidateTags(key), TypeError);
      await assertRejects(() => cache.set("b", 1, { tags: [key] }), TypeError);
    }
    await assertRejects(() => cache.invalidateTags("*"), TypeError);
    assertEquals((await cache.get("a"))?.value(), 1);
    assertEquals(await cache.has("b"), false);
  });

  it("refuses more tags than an entry may carry", async () => {
    await using cache = await open();
    const tags = Array.from({ length: 17 }, (_, i) => `t${i}`);
    await assertRejects(() => cache.set("a", 1, { tags }), TypeError);
    assertEquals(await cache.set("a", 1, { tags: tags.slice(1) }), "applied");
    assertEquals((await cache.get("a"))?.value(), 1);
  });

  it("refuses tags that are no list, as a program without types may give them", async () => {
    await using cache = await open();
    const load = () => Promise.resolve(1);
    const tags = JSON.parse('"users"');
    await assertRejects(() => cache.set("a", 1, { tags }), TypeError, "as tags: use a list");
    await assertRejects(() => cache.getOrLoad("a", load, { tags }), TypeError);
    await assertRejects(() => cache.getOrLoad("a", load, { tagsOf: () => tags }), TypeError);
    assertEquals(await cache.get("a"), undefined);
  });

  it("refuses options that would be ignored, as a program without types may give them", async () => {
    await using cache = await open();
    const load = () => Promise.resolve(1);
    for (const given of [60_000, { ttl: 60 }, { tag: "users" }, { schema: {} }, { codec: {} }]) {
      const options = JSON.parse(JSON.stringify(given));
      await assertRejects(() => cache.getOrLoad("a", load, options), TypeError, "Cannot use");
      await assertRejects(() => cache.set("a", 1, options), TypeError, "Cannot use");
      await assertRejects(() => cache.get("a", options), TypeError, "Cannot use");
    }
    assertEquals(await cache.get("a"), undefined);
  });

  it("refuses values without a JSON form, and TTLs that are none", async () => {
    await using cache = await open();
    const nothing = () => {};
    await assertRejects(() => cache.set("a", nothing), TypeError);
    await assertRejects(() => cache.set("a", 1n), TypeError);
    await assertRejects(() => cache.set("a", Promise.resolve(1)), TypeError, "await it first");
    await assertRejects(() => cache.getOrLoad("a", () => Promise.resolve(nothing)), TypeError);
    await assertRejects(() => cache.set("a", 1, { ttlMs: -1 }), RangeError);
    await assertRejects(() => cache.set("a", 1, { ttlMs: () => NaN }), RangeError);
    let loads = 0;
    const load = () => Promise.resolve(++loads);
    await assertRejects(() => cache.getOrLoad("a", load, { graceMs: NaN }), RangeError);
    assertEquals(loads, 0);
    assertEquals(await cache.has("a"), false);
  });
}

/** How a cache ends. */
export function describeClosing(open: Open): void {
  it("refuses everything once it is closed, and can be closed again", async () => {
    const cache = await open();
    await cache.getOrLoad("a", () => Promise.resolve(1));
    await cache.getOrLoad("a", () => Promise.resolve(1));
    await cache.close();
    await cache.close();
    const load = () => Promise.resolve(1);
    await assertRejects(() => cache.get("a"), CacheClosedError);
    await assertRejects(() => cache.getMany(["a"]), CacheClosedError);
    await assertRejects(() => cache.getOrLoad("a", load), CacheClosedError);
    const loadMany = () => Promise.resolve(new Map([["a", 1]]));
    await assertRejects(() => cache.getOrLoadMany(["a"], loadMany), CacheClosedError);
    await assertRejects(() => cache.set("a", 1), CacheClosedError);
    await assertRejects(() => cache.delete("a"), CacheClosedError);
    await assertRejects(() => cache.invalidateTags("t"), CacheClosedError);
    await assertRejects(() => cache.clear(), CacheClosedError);
    assertEquals(cache.stats().loads, 1);
  });

  it("is closed for each caller of close() only when it is closed for all", async () => {
    const cache = await open();
    let settled = false;
    const { promise, resolve } = Promise.withResolvers<number>();
    const reading = cache.getOrLoad("a", () => promise).then(() => settled = true);
    await eventually(() => assert(cache.stats().loads === 1));
    const closing = cache.close();
    const again = cache.close().then(() => assert(settled));
    resolve(1);
    await Promise.all([closing, again, reading]);
  });

  it("aborts a load that outlasts close(), and loads nothing more", async () => {
    const cache = await open();
    let aborted = false;
    let loading = false;
    const reading = cache.getOrLoad("a", ({ signal }) => {
      loading = true;
      signal.addEventListener("abort", () => aborted = true);
      return new Promise<number>(() => {});
    });
    const refused = assertRejects(() => reading, CacheClosedError);
    await eventually(() => assert(loading));
    await cache[Symbol.asyncDispose]();
    await refused;
    assert(aborted);
  });
}
