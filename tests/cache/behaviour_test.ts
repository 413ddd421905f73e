/** What time and chance do to entries, on a clock that the tests move. */
import { assert, assertEquals, assertGreater, assertLess, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache, type CacheOptions, type Lookup } from "../../cache/mod.ts";
import { FakeRuntime, settle } from "../support/fake_runtime.ts";
import { SimulatedServer } from "../support/simulated_store.ts";

/** A cache on a simulated Redis or in memory alone, and the parts a test drives. */
interface Bench extends AsyncDisposable {
  readonly cache: Cache;
  readonly runtime: FakeRuntime;
  readonly server: SimulatedServer | undefined;
}

interface BenchOptions extends CacheOptions {
  /** `memory:` alone, or a simulated Redis with or without the memory tier in front. */
  readonly on: "memory alone" | "Redis alone" | "both tiers";
  readonly seed?: number;
}

async function open({ on, seed, ...options }: BenchOptions): Promise<Bench> {
  const runtime = new FakeRuntime(seed === undefined ? {} : { seed });
  const server = on === "memory alone" ? undefined : new SimulatedServer({ clock: runtime.clock });
  const store = server?.connect("a", { heartbeatMs: 250 });
  const cache = new Cache({
    runtime,
    memoryBytes: on === "Redis alone" ? 0 : 4 * 1024 * 1024,
    ...options,
  }, store);
  await settle();
  return {
    cache,
    runtime,
    server,
    async [Symbol.asyncDispose]() {
      await cache.close();
      assertEquals(runtime.clock.timers, 0, "a timer outlived the cache");
    },
  };
}

/** Loads that take time, counted. */
class Source {
  readonly startedAtMs: number[] = [];
  readonly #bench: Bench;
  readonly #costMs: number;
  fails = false;

  constructor(bench: Bench, costMs = 0) {
    this.#bench = bench;
    this.#costMs = costMs;
  }

  get loads(): number {
    return this.startedAtMs.length;
  }

  load = async (): Promise<number> => {
    const { clock } = this.#bench.runtime;
    this.startedAtMs.push(clock.monotonicNow());
    const { promise, resolve } = Promise.withResolvers<void>();
    if (this.#costMs > 0) clock.after(this.#costMs, resolve);
    else resolve();
    await promise;
    if (this.fails) throw new Error("no database");
    return this.loads;
  };
}

const tiers = ["memory alone", "Redis alone", "both tiers"] as const;

for (const on of tiers) {
  describe(`Cache on ${on}, as time passes`, () => {
    it("lets 1,000 entries that were filled together expire spread over the jitter", async () => {
      await using bench = await open({ on, seed: 1, ttlMs: 10_000, graceMs: 0 });
      const { cache, runtime } = bench;
      const keys = Array.from({ length: 1_000 }, (_, i) => `k${i}`);
      await Promise.all(keys.map((key) => cache.getOrLoad(key, () => Promise.resolve(1))));
      const held = async () =>
        (await cache.getMany(keys)).filter((lookup) => lookup !== undefined).length;
      await runtime.clock.advance(8_900);
      assertEquals(await held(), 1_000);
      let before = 1_000;
      for (let i = 0; i < 11; i++) { // 2,000 ms of jitter in eleven looks
        await runtime.clock.advance(200);
        const now = await held();
        assertLess(before - now, 160);
        before = now;
      }
      assertEquals(before, 0);
    });

    it("reloads a hot key about once per TTL, ahead of its expiry, and no caller waits", async () => {
      await using bench = await open({ on, seed: 2, ttlMs: 1_000, earlyRefreshBeta: 2 });
      const { cache, runtime } = bench;
      const source = new Source(bench, 40);
      const first = cache.getOrLoad("hot", source.load);
      await runtime.clock.advance(40);
      await first;
      let early = 0;
      let freshUntilMs = runtime.clock.now() + 1_000;
      const wallMs = runtime.clock.now() - runtime.clock.monotonicNow();
      for (let ms = 0; ms < 50_000; ms += 2) {
        const loadsBefore = source.loads;
        const reading: Promise<Lookup<number>> = cache.getOrLoad("hot", source.load);
        let answered = false;
        void reading.then(() => answered = true);
        await settle();
        assert(answered, `a caller waited at ${ms} ms`);
        const lookup = await reading;
        if (source.loads > loadsBefore) {
          if (wallMs + (source.startedAtMs.at(-1) ?? 0) < freshUntilMs) early++;
        }
        freshUntilMs = lookup.freshUntilMs;
        await runtime.clock.advance(2);
      }
      // 50 s of a TTL of 1 s, each shortened by about the mean gap, which is beta times the cost.
      assertGreater(source.loads, 45);
      assertLess(source.loads, 75);
      assertGreater(early / source.loads, 0.85);
    });

    it("never refreshes ahead of expiry with beta 0", async () => {
      await using bench = await open({ on, seed: 3, ttlMs: 1_000, earlyRefreshBeta: 0 });
      const { cache, runtime } = bench;
      const source = new Source(bench, 100);
      const first = cache.getOrLoad("hot", source.load);
      await runtime.clock.advance(100);
      const { freshUntilMs } = await first;
      while (runtime.clock.now() < freshUntilMs - 2) {
        await cache.getOrLoad("hot", source.load);
        await runtime.clock.advance(2);
      }
      assertEquals([source.loads, cache.stats().refreshes], [1, 0]);
    });

    it("serves the stale value while the load fails within its grace, then the error", async () => {
      await using bench = await open({ on, ttlMs: 1_000, graceMs: 10_000, jitterRatio: 0 });
      const { cache, runtime } = bench;
      const source = new Source(bench);
      await cache.getOrLoad("a", source.load);
      source.fails = true;
      await runtime.clock.advance(1_000);
      for (let i = 0; i < 80; i++) {
        const lookup = await cache.getOrLoad("a", source.load);
        assertEquals([lookup.value(), lookup.stale], [1, true]);
        await runtime.clock.advance(100);
      }
      // 8 s of failing refreshes, one a second: the cooldown.
      assertGreater(source.loads, 7);
      assertLess(source.loads, 11);
      await runtime.clock.advance(3_100);
      await assertRejects(() => cache.getOrLoad("a", source.load), Error, "no database");
      source.fails = false;
      assertEquals((await cache.getOrLoad("a", source.load)).stale, false);
    });

    it("recovers from a failed refresh when the source does, without a caller noticing", async () => {
      await using bench = await open({ on, ttlMs: 1_000, graceMs: 60_000, jitterRatio: 0 });
      const { cache, runtime } = bench;
      const source = new Source(bench);
      await cache.getOrLoad("a", source.load);
      await runtime.clock.advance(1_000);
      source.fails = true;
      await cache.getOrLoad("a", source.load);
      await settle();
      source.fails = false;
      await runtime.clock.advance(1_000);
      assertEquals((await cache.getOrLoad("a", source.load)).stale, true);
      await settle();
      const fresh = await cache.getOrLoad("a", source.load);
      assertEquals([fresh.value(), fresh.stale], [3, false]);
    });

    it("loads at once when the grace ends soon after a failed refresh", async () => {
      await using bench = await open({ on, ttlMs: 1_000, graceMs: 500, jitterRatio: 0 });
      const { cache, runtime } = bench;
      const source = new Source(bench);
      await cache.getOrLoad("a", source.load);
      await runtime.clock.advance(1_400);
      source.fails = true;
      assertEquals((await cache.getOrLoad("a", source.load)).stale, true);
      await runtime.clock.advance(101);
      source.fails = false;
      let value: number | undefined;
      const reading = cache.getOrLoad("a", source.load).then((lookup) => value = lookup.value());
      await settle(); // and no time passes
      assertEquals(value, 3);
      await reading;
    });

    it("asks for 10,000 unknown ids once each per negative TTL", async () => {
      await using bench = await open({
        on,
        seed: 4,
        negativeTtlMs: 1_000,
        jitterRatio: 0,
        memoryBytes: on === "Redis alone" ? 0 : 16 * 1024 * 1024,
        loadsMax: 10_000,
      });
      const { cache, runtime } = bench;
      let queries = 0;
      const load = () => (queries++, Promise.resolve(undefined));
      for (let period = 1; period <= 2; period++) {
        for (let round = 0; round < 3; round++) {
          const reads = Array.from({ length: 10_000 }, (_, i) => cache.getOrLoad(`no:${i}`, load));
          await Promise.all(reads);
          await settle();
          assertEquals(queries, period * 10_000);
          await runtime.clock.advance(100);
        }
        await runtime.clock.advance(1_000);
      }
    });

    it("keeps its promises when the wall clock steps an hour back", async () => {
      await using bench = await open({ on, ttlMs: 1_000, graceMs: 0, jitterRatio: 0 });
      const { cache, runtime } = bench;
      const source = new Source(bench);
      await cache.getOrLoad("a", source.load);
      await settle();
      await cache.getOrLoad("a", source.load);
      runtime.clock.stepWall(-3_600_001);
      await cache.getOrLoad("a", source.load);
      assertEquals(source.loads, 1);
      // Redis counts a TTL down by itself: no entry lives on for the hour that was repeated.
      await runtime.clock.advance(1_300);
      const lookup = await cache.getOrLoad("a", source.load);
      assertEquals([lookup.value(), source.loads], [2, 2]);
      assertEquals((await cache.getOrLoad("a", source.load)).value(), 2);
    });

    it("keeps its promises when the wall clock steps an hour ahead", async () => {
      await using bench = await open({ on, ttlMs: 1_000, graceMs: 0, jitterRatio: 0 });
      const { cache, runtime } = bench;
      const source = new Source(bench);
      await cache.getOrLoad("a", source.load);
      runtime.clock.stepWall(3_600_001);
      // An entry may have expired early, at the worst; what is loaded now is kept.
      const lookup = await cache.getOrLoad("a", source.load);
      await settle();
      const loads = source.loads;
      assertEquals(lookup.value(), loads);
      for (let i = 0; i < 9; i++) {
        await runtime.clock.advance(100);
        assertEquals((await cache.getOrLoad("a", source.load)).value(), loads);
      }
      await runtime.clock.advance(400);
      assertEquals((await cache.getOrLoad("a", source.load)).value(), loads + 1);
    });
  });
}

describe("getFromMemory()", () => {
  it("answers a fresh value at once, and counts and reports it as a hit", async () => {
    const seen: string[] = [];
    await using bench = await open({
      on: "memory alone",
      ttlMs: 1_000,
      jitterRatio: 0,
      earlyRefreshBeta: 0,
      onLookup: ({ key, source }) => seen.push(`${key} ${source}`),
    });
    const { cache, runtime } = bench;
    assertEquals(cache.getFromMemory("a"), undefined);
    await cache.getOrLoad("a", () => Promise.resolve({ name: "Ada" }));
    assertEquals(cache.getFromMemory<{ name: string }>("a")?.value()?.name, "Ada");
    assertEquals(cache.stats().memory.hits, 1);
    assertEquals(seen, ["a load", "a memory"]);
    await runtime.clock.advance(1_000);
    assertEquals(cache.getFromMemory("a"), undefined);
  });

  it("answers nothing that was invalidated, or that memory may not be trusted with", async () => {
    const runtime = new FakeRuntime();
    const server = new SimulatedServer({ clock: runtime.clock });
    const store = server.connect("a", { heartbeatMs: 250 });
    await using cache = new Cache({ runtime, memoryBytes: 64 * 1024 }, store);
    await settle();
    const read = async (): Promise<void> => {
      for (let i = 0; i < 2; i++) {
        await cache.getOrLoad("a", () => Promise.resolve(1));
        await settle();
      }
    };
    await read();
    assertEquals(cache.getFromMemory("a")?.source, "memory");
    await cache.delete("a");
    assertEquals(cache.getFromMemory("a"), undefined);
    await read();
    assertEquals(cache.getFromMemory("a")?.source, "memory");
    await server.connect("b").invalidate(["a"]);
    await settle();
    assertEquals(cache.getFromMemory("a"), undefined);
    await read();
    store.silenceFeed();
    await runtime.clock.advance(1_000);
    assertEquals(cache.getFromMemory("a"), undefined);
    await cache.close();
    assertEquals(cache.getFromMemory("a"), undefined);
  });
});

describe("Cache on both tiers, as its feed falls silent", () => {
  it("answers from memory until the memory lease ends, and not a moment longer", async () => {
    const runtime = new FakeRuntime();
    const server = new SimulatedServer({ clock: runtime.clock });
    const store = server.connect("a", { heartbeatMs: 250 });
    await using cache = new Cache({ runtime, memoryBytes: 64 * 1024 }, store);
    await settle();
    for (let i = 0; i < 2; i++) {
      await cache.getOrLoad("a", () => Promise.resolve("old"));
      await settle();
    }
    store.silenceFeed(); // nobody says so
    await server.connect("b").invalidate(["a"]);
    await runtime.clock.advance(990);
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve("new"))).value(), "old");
    await runtime.clock.advance(10);
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve("new"))).value(), "new");
    assertEquals(cache.stats().coherent, false);
  });

  it("holds nothing from before when the feed comes back", async () => {
    const runtime = new FakeRuntime();
    const server = new SimulatedServer({ clock: runtime.clock });
    const store = server.connect("a", { heartbeatMs: 250 });
    const events: string[] = [];
    await using cache = new Cache({
      runtime,
      memoryBytes: 64 * 1024,
      onEvent: ({ type }) => void events.push(type),
    }, store);
    await settle();
    for (let i = 0; i < 2; i++) {
      await cache.getOrLoad("a", () => Promise.resolve("old"));
      await settle();
    }
    store.closeFeed("cut");
    await server.connect("b").invalidate(["a"]);
    await store.openFeed();
    await settle();
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve("new"))).value(), "new");
    assertEquals(cache.stats().feedDrops, 1);
    assertEquals(events.filter((type) => type === "coherent").length, 3);
  });
});
