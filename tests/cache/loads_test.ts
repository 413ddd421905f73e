import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache } from "../../cache/mod.ts";
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
  });
}
