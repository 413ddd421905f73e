import { assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache } from "../../../cache/mod.ts";
import { Gather } from "../../../cache/redis/gather.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { startRedis } from "../../../tools/servers/redis_server.ts";
import { FakeClock } from "../../support/fake_runtime.ts";

/** Notes what is sent together; each reply is its item in capitals. */
function gatherTo(sent: string[][], options: { itemsMax?: number; clock?: FakeClock } = {}) {
  return new Gather<string, string>({
    itemsMax: options.itemsMax ?? 10,
    ...(options.clock === undefined ? {} : { delay: { clock: options.clock, ms: 2 } }),
    send: (items) => {
      sent.push([...items]);
      return Promise.resolve(items.map((item) => item.toUpperCase()));
    },
  });
}

describe("Gather", () => {
  it("sends what is asked for in one turn of the event loop as one, and tells who asked what", async () => {
    const sent: string[][] = [];
    const gather = gatherTo(sent);
    assertEquals(await Promise.all(["a", "b", "c"].map((item) => gather.ask(item))), [
      ...["A", "B", "C"],
    ]);
    assertEquals(await gather.ask("d"), "D");
    assertEquals(sent, [["a", "b", "c"], ["d"]]);
  });

  it("sends no more at once than it may", async () => {
    const sent: string[][] = [];
    const gather = gatherTo(sent, { itemsMax: 2 });
    await Promise.all(["a", "b", "c"].map((item) => gather.ask(item)));
    assertEquals(sent, [["a", "b"], ["c"]]);
    const alone = gatherTo(sent, { itemsMax: 1 });
    await Promise.all(["d", "e"].map((item) => alone.ask(item)));
    assertEquals(sent.slice(2), [["d"], ["e"]]);
  });

  it("sends what may wait with what goes anyway, before it, or when its time is over", async () => {
    const sent: string[][] = [];
    const clock = new FakeClock();
    const gather = gatherTo(sent, { clock });
    const asked = [gather.ask("a")];
    await new Promise((resolve) => setTimeout(resolve)); // a turn of its own
    asked.push(gather.ask("b"));
    assertEquals(sent, []);
    gather.flush();
    assertEquals([sent, clock.timers], [[["a", "b"]], 0]);
    gather.flush();
    asked.push(gather.ask("c"));
    await clock.advance(1);
    assertEquals(sent.length, 1);
    await clock.advance(1);
    assertEquals(await Promise.all(asked), ["A", "B", "C"]);
    assertEquals(sent, [["a", "b"], ["c"]]);
  });

  it("fails those that were sent together, and no other", async () => {
    let fails = true;
    const gather = new Gather<string, string>({
      itemsMax: 10,
      send: (items) => fails ? Promise.reject(new Error("away")) : Promise.resolve(items),
    });
    const asked = ["a", "b"].map((item) => assertRejects(() => gather.ask(item), Error, "away"));
    await Promise.all(asked);
    fails = false;
    assertEquals(await gather.ask("c"), "c");
  });

  it("lets a cache lease and fill 100 keys by some commands", async () => {
    await using redis = await startRedis();
    await using cache = new Cache({ url: redis.url });
    await cache.set("connected", 1);
    await redis.cli("CONFIG", "RESETSTAT");
    const keys = Array.from({ length: 100 }, (_, at) => `k${at}`);
    const found = await Promise.all(
      keys.map((key) => cache.getOrLoad(key, () => Promise.resolve(key))),
    );
    assertEquals(found.map((lookup) => lookup.value()), keys);
    await eventually(async () => {
      assertEquals(
        (await Promise.all(keys.map((key) => cache.get(key)))).includes(undefined),
        false,
      );
    });
    const [, calls] = /cmdstat_evalsha:calls=(\d+)/.exec(
      await redis.cli("INFO", "commandstats"),
    ) ?? [];
    assertEquals(Number(calls) > 0 && Number(calls) <= 12, true, `${calls} scripts`);
  });
});
