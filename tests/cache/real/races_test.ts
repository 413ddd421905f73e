import { assert, assertEquals, assertGreater } from "@std/assert";
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { Redis } from "ioredis";
import type { EntryOptions, Lookup } from "../../../cache/mod.ts";
import { eventually } from "../../support/eventually.ts";
import { type RedisServer, startRedis } from "../../support/redis_server.ts";
import {
  closeAll,
  coherent,
  feedIds,
  freshPrefix,
  holdInMemory,
  later,
  type Node,
  openNode,
  openNodes,
  Row,
} from "./_nodes.ts";

/** Reads often enough that a value installed late, on any tier, would come up. */
async function assertOnly(nodes: readonly Node[], key: string, row: Row): Promise<void> {
  for (let round = 0; round < 5; round++) {
    for (const { cache } of nodes) {
      assertEquals((await cache.getOrLoad(key, row.load)).value(), row.value);
    }
  }
}

/** Begins a read of `k` that is awaited later. */
function startRead(
  node: Node | undefined,
  row: Row,
  options: EntryOptions<string> = {},
): Promise<Lookup<string>> {
  assert(node !== undefined);
  return later(node.cache.getOrLoad("k", row.load, options));
}

describe("Cache on two instances", () => {
  let server: RedisServer;
  let nodes: Node[];

  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(() => server[Symbol.asyncDispose]());
  beforeEach(async () => {
    nodes = await openNodes(server, 2);
  });
  afterEach(() => closeAll(nodes));

  for (const [where, deleter] of [["the same node", 0], ["the other node", 1]] as const) {
    it(`delete() on ${where} during a load: nobody reads what it loaded afterwards`, async () => {
      const row = new Row("old");
      const release = row.hold();
      const reading = startRead(nodes[0], row);
      await row.wasRead();
      row.value = "new";
      assertEquals(await nodes[deleter]?.cache.delete("k"), "applied");
      release();
      assertEquals((await reading).value(), "old"); // it began before the write
      await eventually(() =>
        assertEquals((nodes[0]?.count("fill") ?? 0) + (nodes[0]?.count("fill-refused") ?? 0), 1)
      );
      await assertOnly(nodes, "k", row);
      assertEquals(nodes[0]?.cache.stats().refusedFills, 1);
    });

    it(`delete() on ${where} during a load: a later read doesn't join it`, async () => {
      const row = new Row("old");
      const release = row.hold();
      const early = startRead(nodes[0], row);
      await row.wasRead();
      row.value = "new";
      await nodes[deleter]?.cache.delete("k");
      const late = nodes.map((node) => startRead(node, row));
      release();
      assertEquals((await early).value(), "old");
      for (const found of await Promise.all(late)) assertEquals(found.value(), "new");
      await assertOnly(nodes, "k", row);
    });

    it(`set() on ${where} during a load: what it set stays`, async () => {
      const row = new Row("old");
      const release = row.hold();
      const reading = startRead(nodes[0], row);
      await row.wasRead();
      row.value = "new";
      assertEquals(await nodes[deleter]?.cache.set("k", "new"), "applied");
      release();
      await reading;
      await eventually(() => assertEquals(nodes[0]?.count("fill-refused"), 1));
      await assertOnly(nodes, "k", row);
      assertEquals(row.reads, 1);
    });

    it(`invalidateTags() on ${where} during a load: nobody reads what it loaded`, async () => {
      const row = new Row("old");
      const options = { tags: ["list"] };
      const release = row.hold();
      const reading = startRead(nodes[0], row, options);
      await row.wasRead();
      row.value = "new";
      assertEquals(await nodes[deleter]?.cache.invalidateTags("list"), "applied");
      const late = nodes.map((node) => startRead(node, row, options));
      release();
      await reading;
      for (const found of await Promise.all(late)) assertEquals(found.value(), "new");
    });
  }

  it("two nodes that miss together load once", async () => {
    const keys = Array.from({ length: 25 }, (_, at) => `k${at}`);
    let loads = 0;
    const load = () => {
      loads++;
      return Promise.resolve("value");
    };
    const found = await Promise.all(
      keys.flatMap((key) => nodes.map(({ cache }) => cache.getOrLoad(key, load))),
    );
    assertEquals(found.map((lookup) => lookup.value()), found.map(() => "value"));
    assertEquals(loads, keys.length);
  });

  it("a slow load that the other node waits for wakes it when it is done", async () => {
    const row = new Row("value");
    const release = row.hold();
    const first = startRead(nodes[0], row);
    await row.wasRead();
    const second = startRead(nodes[1], row);
    await eventually(() => assertGreater(nodes[1]?.cache.stats().redis.misses ?? 0, 0));
    release();
    assertEquals((await first).source, "load");
    assertEquals((await second).source, "redis");
    assertEquals(row.reads, 1);
  });
});

describe("A feed connection that is killed around a delete", () => {
  it("leaves nothing old in memory, before or after the feed returns", async () => {
    await using server = await startRedis();
    const prefix = freshPrefix();
    await using victim = openNode(server.url, { prefix });
    await coherent(victim);
    const [feedId = ""] = await feedIds(server);
    await using other = openNode(server.url, { prefix });
    await coherent(other);
    const row = new Row("old");
    await holdInMemory([victim, other], "k", row.load);
    await holdInMemory([victim, other], "unread", row.load);

    row.value = "new";
    // One transaction: the feed is gone before the key is, so this delete is never announced to it.
    const redis = new Redis(server.url);
    const keys = ["k", "unread"].map((key) => `${prefix}:1:{${key}}`);
    await redis.multi().client("KILL", "ID", feedId).unlink(...keys).exec();
    await redis.quit();

    await eventually(() => assertEquals(victim.cache.stats().feedDrops, 1));
    assertEquals((await victim.cache.getOrLoad("k", row.load)).value(), "new");
    await coherent(victim);
    // Nobody has asked for this one in between: what memory held of it is what it would answer now.
    await assertOnly([victim, other], "unread", row);
    await assertOnly([victim, other], "k", row);
    await holdInMemory([victim], "k", row.load);
    assertEquals(other.cache.stats().feedDrops, 0);
  });
});

describe("Cache.set() and Cache.delete() from two instances at once", () => {
  it("leave every tier empty or equal to Redis once it is quiet", async () => {
    await using server = await startRedis();
    const prefix = freshPrefix();
    const nodes = await openNodes(server, 2, { prefix });
    await using judge = openNode(server.url, { prefix, memoryBytes: 0 });
    try {
      await coherent(judge);
      const keys = Array.from({ length: 8 }, (_, at) => `k${at}`);
      for (let round = 0; round < 15; round++) {
        await Promise.all(keys.flatMap((key) => writesOf(nodes, key, round)));
        for (const key of keys) {
          // Announcements may still be on their way, so "quiet" is a deadline, not a moment.
          await eventually(async () => {
            const stored = (await judge.cache.get(key))?.text;
            for (const { cache } of nodes) assertEquals((await cache.get(key))?.text, stored);
          }, { deadlineMs: 2_000 });
        }
      }
      for (const { cache } of nodes) assertEquals(cache.stats().redisErrors, 0);
    } finally {
      await closeAll(nodes);
    }
  });
});

function writesOf(nodes: readonly Node[], key: string, round: number): Promise<unknown>[] {
  return nodes.flatMap(({ cache }, at) => [
    cache.set(key, `${round} set by ${at}`),
    cache.getOrLoad(key, () => Promise.resolve(`${round} loaded by ${at}`)),
    cache.delete(key),
    cache.set(key, `${round} set again by ${at}`),
    cache.getOrLoad(key, () => Promise.resolve(`${round} loaded again by ${at}`)),
  ]);
}
