import { assertEquals, assertGreater, assertLessOrEqual, assertMatch } from "@std/assert";
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { Buffer } from "node:buffer";
import { Redis } from "ioredis";
import { encodeEntry } from "../../../cache/entry.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { type RedisServer, startRedis } from "../../../tools/servers/redis_server.ts";
import {
  closeAll,
  coherent,
  freshPrefix,
  holdInMemory,
  type Node,
  openNode,
  openNodes,
  Row,
} from "./nodes.ts";

/** An entry as it is stored, to be damaged. */
function storedEntry(): Buffer {
  const atMs = Date.now();
  const times = { loadedAtMs: atMs, freshUntilMs: atMs + 60_000, staleUntilMs: atMs + 60_000 };
  const entry = { text: '"foreign"', costMs: 1, tags: [{ name: "*", version: "v" }], ...times };
  return Buffer.from(encodeEntry(entry, 1_024));
}

function newerFormat(): Buffer {
  const bytes = storedEntry();
  bytes[0] = 2;
  return bytes;
}

const foreign: Readonly<Record<string, (redis: Redis, key: string) => Promise<unknown>>> = {
  "garbage": (redis, key) =>
    redis.set(key, Buffer.from("garbage that goes on past any header ".repeat(3))),
  "one byte": (redis, key) => redis.set(key, "x"),
  "nothing at all": (redis, key) => redis.set(key, ""),
  "a truncated header": (redis, key) => redis.set(key, storedEntry().subarray(0, 20)),
  "a truncated tag": (redis, key) => redis.set(key, storedEntry().subarray(0, 33)),
  "a newer format": (redis, key) => redis.set(key, newerFormat()),
  "a list": (redis, key) => redis.lpush(key, "x"),
  "a hash": (redis, key) => redis.hset(key, "field", "x"),
};

describe("What Redis holds under the cache's keys and the cache did not write", () => {
  let server: RedisServer;
  let redis: Redis;
  let nodes: Node[];
  let prefix: string;

  beforeAll(async () => {
    server = await startRedis();
    redis = new Redis(server.url);
  });
  afterAll(async () => {
    await redis.quit();
    await server[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    prefix = freshPrefix();
    nodes = await openNodes(server, 2, { prefix });
  });
  afterEach(() => closeAll(nodes));

  /** Reads on both nodes until both answer from a tier: the key has healed. */
  async function assertHeals(row: Row, tags: readonly string[] = []): Promise<void> {
    for (const { cache } of nodes) {
      assertEquals((await cache.getOrLoad("k", row.load, { tags })).value(), row.value);
    }
    const readsMax = row.reads + 1; // the second node may have changed a tag under the first
    await eventually(async () => {
      for (const { cache } of nodes) {
        const found = await cache.getOrLoad("k", row.load, { tags });
        assertEquals([found.source, found.value()], ["memory", row.value]);
      }
    });
    assertLessOrEqual(row.reads, readsMax);
    for (const { cache } of nodes) assertEquals(cache.stats().redisErrors, 0);
  }

  for (const [what, write] of Object.entries(foreign)) {
    it(`${what} under a value's key is a counted miss, and the key heals`, async () => {
      const row = new Row("right");
      // So that the root tag is held: MGET, which reads it together with a value, tells no foreign type from no value.
      await holdInMemory(nodes, "another", row.load);
      row.reads = 0;
      await write(redis, `${prefix}:1:{k}`);
      assertEquals(await nodes[0]?.cache.get("k"), undefined);
      assertEquals(nodes[0]?.cache.stats().unreadable, 1);
      const found = await nodes[0]?.cache.getOrLoad("k", row.load);
      assertEquals([found?.source, found?.value()], ["load", "right"]);
      assertEquals(nodes[0]?.cache.stats().unreadable, 2);
      await eventually(() => assertEquals(nodes[0]?.count("fill", { key: "k" }), 1));
      assertEquals((await nodes[1]?.cache.getOrLoad("k", row.load))?.source, "redis");
      await assertHeals(row);
      assertEquals(row.reads, 1);
    });
  }

  it("a list under a lease's key is replaced by the lease", async () => {
    const row = new Row("right");
    await redis.lpush(`${prefix}:1:lease:{k}`, "x");
    const found = await nodes[0]?.cache.getOrLoad("k", row.load);
    assertEquals([found?.source, found?.value()], ["load", "right"]);
    await eventually(() => assertEquals(nodes[0]?.count("fill"), 1));
    await assertHeals(row);
    assertEquals(row.reads, 1);
  });

  it("a list put under a lease's key during the load refuses the fill", async () => {
    const row = new Row("right");
    const release = row.hold();
    const reading = nodes[0]?.cache.getOrLoad("k", row.load);
    await row.wasRead();
    await redis.multi().del(`${prefix}:1:lease:{k}`).lpush(`${prefix}:1:lease:{k}`, "x").exec();
    release();
    assertEquals((await reading)?.value(), "right");
    await eventually(() => assertEquals(nodes[0]?.cache.stats().refusedFills, 1));
    await assertHeals(row);
  });

  for (const [which, name] of [["a tag's", "list"], ["the root tag's", "*"]] as const) {
    it(`a list under ${which} key voids its entries, and heals`, async () => {
      const row = new Row("old");
      for (const { cache } of nodes) await cache.getOrLoad("k", row.load, { tags: ["list"] });
      row.value = "right";
      const key = `${prefix}:1:{${name}}:tag`;
      await redis.multi().del(key).lpush(key, "x").exec();
      await eventually(async () => {
        for (const { cache } of nodes) assertEquals(await cache.get("k"), undefined);
      });
      await assertHeals(row, ["list"]);
      assertEquals(await redis.type(key), "string");
    });
  }

  it("a list under the root tag's key is replaced when the first entry is stored", async () => {
    const key = `${prefix}:1:{*}:tag`;
    await redis.lpush(key, "x");
    await assertHeals(new Row("right"));
    assertEquals(await redis.type(key), "string");
  });
});

describe("SCRIPT FLUSH between reads", () => {
  it("costs nothing but the script's second journey: every value is still stored", async () => {
    await using server = await startRedis();
    await using node = openNode(server.url, { prefix: freshPrefix(), memoryBytes: 0 });
    await coherent(node);
    for (let at = 0; at < 20; at++) {
      await server.cli("SCRIPT", "FLUSH", at % 2 === 0 ? "SYNC" : "ASYNC");
      const load = () => Promise.resolve(at);
      assertEquals((await node.cache.getOrLoad(`k${at}`, load)).source, "load");
      await eventually(() => assertEquals(node.count("fill"), at + 1));
      assertEquals((await node.cache.getOrLoad(`k${at}`, load)).source, "redis");
      await server.cli("SCRIPT", "FLUSH");
      assertEquals(await node.cache.set(`k${at}`, 100 + at), "applied");
      assertEquals((await node.cache.get(`k${at}`))?.value(), 100 + at);
    }
    const { redisErrors, breaker, loads } = node.cache.stats();
    assertEquals({ redisErrors, breaker, loads }, { redisErrors: 0, breaker: "closed", loads: 20 });
  });
});

describe("A payload over the threshold", () => {
  it("takes fewer bytes in Redis, and comes back as it was", async () => {
    await using server = await startRedis();
    const prefix = freshPrefix();
    await using writer = openNode(server.url, { prefix });
    await using reader = openNode(server.url, { prefix });
    await coherent(writer, reader);
    const page = Array.from({ length: 40 }, (_, at) => ({
      id: at,
      name: `User ${at}`,
      bio: `This is the bio for user ${at}. Lorem ipsum dolor sit amet. Привет, 世界 🎈`,
    }));
    const textBytes = Buffer.byteLength(JSON.stringify(page));
    assertGreater(textBytes, 1_024);
    const loaded = await writer.cache.getOrLoad("page", () => Promise.resolve(page));
    await eventually(() => assertEquals(writer.count("fill"), 1));
    const stored = Number(await server.cli("STRLEN", `${prefix}:1:{page}`));
    assertGreater(textBytes / 4, stored);
    const found = await reader.cache.get<typeof page>("page");
    assertEquals(found?.source, "redis");
    assertEquals(found?.text, loaded.text);
    assertEquals(found?.value(), page);

    const small = { name: "x".repeat(900) };
    await writer.cache.set("small", small);
    assertGreater(Number(await server.cli("STRLEN", `${prefix}:1:{small}`)), 900);
    assertEquals((await reader.cache.get("small"))?.value(), small);
    assertMatch(await server.cli("GET", `${prefix}:1:{small}`), /x{900}/);
  });
});
