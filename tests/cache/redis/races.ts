/**
 * What instances that share servers do to each other. One suite for every arrangement of servers.
 *
 * @module
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { Redis } from "ioredis";
import type { EntryOptions, Lookup } from "../../../cache/mod.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import type { RedisServer } from "../../../tools/servers/redis_server.ts";
import {
  closeAll,
  coherent,
  feedIds,
  freshPrefix,
  holdInMemory,
  type Node,
  openNode,
  openNodes,
  Row,
} from "./nodes.ts";
import { later } from "../../support/later.ts";
import { holderOf, type Stage, type StartStage } from "./stage.ts";

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

/** Registers the suite for one arrangement. */
export function describeRaces(name: string, start: StartStage): void {
  describeTwoInstances(name, start);
  describeKilledFeed(name, start);
  describeWritesAtOnce(name, start);
}

function describeTwoInstances(name: string, start: StartStage): void {
  describe(`Cache on two instances that share ${name}`, () => {
    let stage: Stage;
    let nodes: Node[];

    beforeAll(async () => {
      stage = await start();
    });
    afterAll(() => stage[Symbol.asyncDispose]());
    beforeEach(async () => {
      nodes = await openNodes(stage, 2);
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
}

function describeKilledFeed(name: string, start: StartStage): void {
  describe(`A feed connection to ${name} that is killed around a delete`, () => {
    it("leaves nothing old in memory, before or after the feed returns", async () => {
      await using stage = await start();
      const prefix = freshPrefix();
      await using victim = openNode(stage.serviceUrl, { prefix });
      await coherent(victim);
      const feeds = new Map<RedisServer, string>();
      for (const server of await stage.primaries()) {
        const [feedId] = await feedIds(server);
        assert(feedId !== undefined);
        feeds.set(server, feedId);
      }
      await using other = openNode(stage.serviceUrl, { prefix });
      await coherent(other);
      const row = new Row("old");
      const keys = ["k", "unread"];
      for (const key of keys) await holdInMemory([victim, other], key, row.load);

      row.value = "new";
      for (const key of keys) {
        const redisKey = `${prefix}:1:{${key}}`;
        const server = await holderOf(stage, redisKey);
        // One transaction: the feed is gone before the key is, so this delete is never announced to it.
        const redis = new Redis(server.url);
        const killing = redis.multi();
        const feedId = feeds.get(server);
        if (feedId !== undefined) killing.client("KILL", "ID", feedId);
        feeds.delete(server);
        await killing.unlink(redisKey).exec();
        await redis.quit();
      }

      await eventually(() => assertGreater(victim.cache.stats().feedDrops, 0));
      assertEquals((await victim.cache.getOrLoad("k", row.load)).value(), "new");
      await coherent(victim);
      // Nobody has asked for this one in between: what memory held of it is what it would answer now.
      await assertOnly([victim, other], "unread", row);
      await assertOnly([victim, other], "k", row);
      await holdInMemory([victim], "k", row.load);
      assertEquals(other.cache.stats().feedDrops, 0);
    });
  });
}

function describeWritesAtOnce(name: string, start: StartStage): void {
  describe(`Cache.set() and Cache.delete() from two instances at once on ${name}`, () => {
    it("leave every tier empty or equal to Redis once it is quiet", async () => {
      await using stage = await start();
      const prefix = freshPrefix();
      const nodes = await openNodes(stage, 2, { prefix });
      await using judge = openNode(stage.serviceUrl, { prefix, memoryBytes: 0 });
      try {
        await coherent(judge);
        const keys = Array.from({ length: 8 }, (_, at) => `k${at}`);
        for (let round = 0; round < 15; round++) {
          await Promise.all(keys.flatMap((key) => writesOf(nodes, key, round)));
          for (const key of keys) {
            // Announcements may still be on their way.
            await eventually(async () => {
              const stored = (await judge.cache.get(key))?.text;
              for (const { cache } of nodes) assertEquals((await cache.get(key))?.text, stored);
            });
          }
        }
        for (const { cache } of nodes) assertEquals(cache.stats().redisErrors, 0);
      } finally {
        await closeAll(nodes);
      }
    });
  });
}

function writesOf(nodes: readonly Node[], key: string, round: number): Promise<unknown>[] {
  return nodes.flatMap(({ cache }, at) => [
    cache.set(key, `${round} set by ${at}`),
    cache.getOrLoad(key, () => Promise.resolve(`${round} loaded by ${at}`)),
    cache.delete(key),
    cache.set(key, `${round} set again by ${at}`),
    cache.getOrLoad(key, () => Promise.resolve(`${round} loaded again by ${at}`)),
  ]);
}
