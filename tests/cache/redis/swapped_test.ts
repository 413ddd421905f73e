import { assertEquals, assertGreater } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { NO_CHANGES } from "../../../cache/changes.ts";
import { type CacheOptions, OtherSourceError } from "../../../cache/mod.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { type RedisServer, startRedis } from "../../../tools/servers/redis_server.ts";
import { changesThat, holdInMemory, type Node, openNode, Row } from "./nodes.ts";

/** Soon, so that a swap is noticed soon. */
const HEARTBEAT_MS = 200;

function nodeOn(url: string, options: CacheOptions = {}): Node {
  return openNode(url, { heartbeatMs: HEARTBEAT_MS, ...options });
}

/** The changes of a source of truth that has a name, and never changes. */
function sourceOf(name: string): Pick<CacheOptions, "changes"> {
  return {
    changes: { attach: () => ({ ...NO_CHANGES, source: () => Promise.resolve(name) }) },
  };
}

async function read({ cache }: Node, row: Row): Promise<string | undefined> {
  return (await cache.getOrLoad("k", row.load)).value();
}

describe("SWAPDB, which no feed announces,", () => {
  let redis: RedisServer;

  beforeEach(async () => {
    redis = await startRedis();
  });
  afterEach(() => redis[Symbol.asyncDispose]());

  it("empties memory: a delete since reaches a database that memory is not from", async () => {
    await using reader = nodeOn(redis.url);
    await using writer = nodeOn(redis.url);
    const row = new Row("old");
    await holdInMemory([reader, writer], "k", row.load);

    await redis.cli("SWAPDB", "0", "1");
    row.value = "new";
    assertEquals(await writer.cache.delete("k"), "applied");
    await eventually(async () => assertEquals(await read(reader, row), "new"));
    await holdInMemory([reader, writer], "k", row.load);
    // And what follows is announced again.
    row.value = "newer";
    await writer.cache.delete("k");
    await eventually(async () => assertEquals(await read(reader, row), "newer"));
  });

  it("is caught up with as a failover is: nothing old is answered from the copy that is back", async () => {
    const row = new Row("old");
    const replays: boolean[] = [];
    await using node = nodeOn(redis.url, {
      changes: changesThat(async (server, replay) => {
        replays.push(replay);
        if (replay) assertEquals(await server.delete("k"), "applied");
      }),
    });
    await holdInMemory([node], "k", row.load);
    await redis.cli("SWAPDB", "0", "1");
    await eventually(() => assertEquals(replays, [true, true]));
    row.value = "new";
    await node.cache.delete("k");
    await holdInMemory([node], "k", row.load);

    // At once: the node removes it.
    const swap = "redis.call('SWAPDB', '0', '1') return redis.call('EXISTS', KEYS[1])";
    assertEquals(await redis.cli("EVAL", swap, "1", "la:1:{k}"), "1", "the old copy is not back");
    while (replays.length < 3 || node.count("caught-up") < 3) {
      assertEquals(await read(node, row), "new");
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    assertEquals(replays, [true, true, true]);
    assertEquals(await redis.cli("EXISTS", "la:1:{k}"), "0");
    await holdInMemory([node], "k", row.load);
    assertEquals(await read(node, row), "new");
  });

  it("to the database of another source is refused by both, which answer their own rows, until it is undone", async () => {
    await using shop = nodeOn(redis.url, sourceOf("shop"));
    await using blog = nodeOn(redis.url.replace(/\/0$|$/, "/1"), sourceOf("blog"));
    const sides = [{ node: shop, row: new Row("shop") }, { node: blog, row: new Row("blog") }];
    for (const { node, row } of sides) await holdInMemory([node], "k", row.load);

    await redis.cli("SWAPDB", "0", "1");
    const refused = ({ events }: Node): boolean =>
      events.some((event) =>
        event.type === "catch-up-error" && event.error instanceof OtherSourceError
      );
    while (!sides.every(({ node }) => refused(node))) {
      for (const { node, row } of sides) assertEquals(await read(node, row), row.value);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    for (const { node, row } of sides) {
      const found = await node.cache.getOrLoad("k", row.load);
      assertEquals([found.source, found.value()], ["load", row.value]);
    }

    await redis.cli("SWAPDB", "0", "1");
    for (const { node, row } of sides) await holdInMemory([node], "k", row.load);
    for (const { node, row } of sides) assertEquals(await read(node, row), row.value);
  });

  it("and back between two heartbeats changes nothing", async () => {
    await using node = nodeOn(redis.url);
    const row = new Row("as it was");
    await holdInMemory([node], "k", row.load);
    const swap = "redis.call('SWAPDB', '0', '1')";
    await redis.cli("EVAL", `${swap} return ${swap}`, "0"); // no heartbeat comes in between
    await redis.cli("CONFIG", "RESETSTAT");
    await eventually(async () => {
      const [, pings] = /cmdstat_ping:calls=(\d+)/.exec(await redis.cli("INFO", "commandstats")) ??
        [];
      assertGreater(Number(pings ?? 0), 1, "no heartbeat since");
    });
    assertEquals((await node.cache.getOrLoad("k", row.load)).source, "memory");
    assertEquals(row.reads, 1);
  });
});
