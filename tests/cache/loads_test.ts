import { assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache, type Lookup } from "../../cache/mod.ts";
import { FakeRuntime, settle } from "../support/fake_runtime.ts";
import { SimulatedServer } from "../support/simulated_store.ts";

function open(on: "memory" | "Redis") {
  const runtime = new FakeRuntime();
  const server = new SimulatedServer({ clock: runtime.clock });
  const store = on === "memory" ? undefined : server.connect("a");
  return new Cache({ runtime, memoryBytes: 64 * 1024 }, store);
}

/** A load that a test ends. */
class Load {
  readonly #end = Promise.withResolvers<number>();
  calls = 0;

  load = (): Promise<number> => (this.calls++, this.#end.promise);
  end = (value: number): void => this.#end.resolve(value);
}

for (const on of ["memory", "Redis"] as const) {
  describe(`Loads on ${on}`, () => {
    it("are joined until they are done or an invalidation detaches them", async () => {
      await using cache = open(on);
      const [before, after] = [new Load(), new Load()];
      const joined = [cache.getOrLoad("a", before.load)];
      await settle();
      joined.push(cache.getOrLoad("a", after.load));
      await settle();
      await cache.delete("a");
      const late = cache.getOrLoad("a", after.load);
      await settle();
      assertEquals([before.calls, after.calls], [1, 1]);
      before.end(1);
      assertEquals((await Promise.all(joined)).map((lookup) => lookup.value()), [1, 1]);
      await settle();
      // The detached load has ended, and left the one that took its place.
      const joining = cache.getOrLoad("a", after.load);
      await settle();
      assertEquals(after.calls, 1);
      after.end(2);
      assertEquals([(await late).value(), (await joining).value()], [2, 2]);
      assertEquals((await cache.get("a"))?.value(), 2);
      assertEquals(cache.stats().coalesced, 2);
    });

    it("of a key read each other without waiting for places", async () => {
      await using cache = open(on);
      const chain = (n: number): Promise<number> =>
        n === 0
          ? Promise.resolve(0)
          : cache.getOrLoad(`k${n}`, () => chain(n - 1)).then((lookup) =>
            (lookup.value() ?? 0) + 1
          );
      assertEquals(await chain(200), 200);
    });

    it("that read their own key fail at once, also by way of others or a batch", async () => {
      await using cache = open(on);
      const message = "Cannot load a: its loader reads it, which would never end";
      const readA = (options?: { readonly refresh: true }) =>
        cache.getOrLoad("a", () => Promise.resolve(1), options).then((lookup) => lookup.value());
      const readB = () => cache.getOrLoad("b", () => readA()).then((lookup) => lookup.value());
      await assertRejects(() => cache.getOrLoad("a", () => readA()), TypeError, message);
      await assertRejects(() => cache.getOrLoad("a", () => readB()), TypeError, message);
      const readMany = () =>
        cache.getOrLoadMany(["b", "a"], async () => new Map([["a", await readA()]]));
      await assertRejects(readMany, TypeError, message);
      assertEquals(await readA(), 1); // which none of these has spoilt
      const refresh = { refresh: true } as const;
      const load = () => readA(refresh);
      await assertRejects(() => cache.getOrLoad("a", load, refresh), TypeError, message);
    });

    it("that only look at what is stored under their own key go on", async () => {
      await using cache = open(on);
      await cache.set("a", 1);
      await cache.expire("a");
      const next = async () => {
        const last = await cache.getOrLoad("a", () => Promise.resolve(100));
        return (last.value() ?? 0) + 1;
      };
      assertEquals((await cache.getOrLoad("a", next)).value(), 1); // stale
      await settle();
      assertEquals((await cache.get("a"))?.value(), 2);
    });

    it("may leave behind a load that reads their key once they have ended", async () => {
      await using cache = open(on);
      const [begun, ended] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      const next = async () => {
        begun.resolve();
        await ended.promise;
        return (await cache.getOrLoad("a", () => Promise.resolve(2))).value();
      };
      let left: Promise<Lookup<number>> | undefined;
      const load = async () => {
        left = cache.getOrLoad("b", next);
        await begun.promise;
        return 1;
      };
      assertEquals((await cache.getOrLoad("a", load, { ttlMs: 0 })).value(), 1);
      ended.resolve();
      assertEquals((await left)?.value(), 2);
    });
  });
}
