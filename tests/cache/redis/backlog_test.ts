import { assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { Cache } from "../../../cache/mod.ts";
import { freePort } from "../../../tools/servers/free_port.ts";
import { type RedisServer, startRedis } from "../../../tools/servers/redis_server.ts";
import { coherent, freshPrefix, openNode } from "./nodes.ts";

describe("What a process has to send by itself", () => {
  let redis: RedisServer;

  beforeAll(async () => {
    redis = await startRedis();
  });
  afterAll(() => redis[Symbol.asyncDispose]());

  it("waits for the first connection: a script deletes, writes, clears and ends", async () => {
    const prefix = freshPrefix();
    await using reader = openNode(redis.url, { prefix });
    await coherent(reader);
    const scripts: ((cache: Cache) => Promise<unknown>)[] = [
      (cache) => cache.delete("k"),
      (cache) => cache.set("k", "new"),
      (cache) => cache.invalidateTags("t"),
      (cache) => cache.clear(),
    ];
    for (const script of scripts) {
      assertEquals(await reader.cache.set("k", "old", { tags: ["t"] }), "applied");
      await using cache = new Cache({ url: redis.url, prefix });
      assertEquals(await script(cache), "applied", String(script));
      await cache.close();
      // A process of its own that knows nothing of what was there.
      await using other = openNode(redis.url, { prefix, memoryBytes: 0 });
      const found = (await other.cache.getOrLoad("k", () => Promise.resolve("new"))).value();
      assertEquals(found, "new", String(script));
    }
  });

  it("is sent before close() is done, also where nobody has waited for it", async () => {
    const prefix = freshPrefix();
    await using reader = openNode(redis.url, { prefix });
    await coherent(reader);
    await reader.cache.set("k", "old");
    const cache = new Cache({ url: redis.url, prefix });
    const deleted = cache.delete("k");
    await cache.close();
    assertEquals(await redis.cli("EXISTS", `${prefix}:1:{k}`), "0");
    assertEquals(await deleted, "applied");
  });

  it("is told as lost where close() could not send it", async () => {
    const lost: number[] = [];
    const cache = new Cache({
      url: `redis://127.0.0.1:${freePort()}`,
      onEvent: (event) => void (event.type === "invalidations-lost" && lost.push(event.count)),
    });
    const deleted = cache.delete("a", "b");
    await cache.close();
    assertEquals([await deleted, lost], ["pending", [2]]);
  });
});
