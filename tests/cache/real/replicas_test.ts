import { assertEquals, assertGreater, assertLess } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache } from "../../../cache/mod.ts";
import { eventually } from "../../support/eventually.ts";
import { startRedis } from "../../support/redis_server.ts";

/** A cache that waits for one replica, once it has connected. */
async function openCache(url: string): Promise<Cache> {
  const cache = new Cache({ url, waitReplicas: 1 });
  await eventually(async () => assertEquals(await cache.set("ready", 1), "applied"));
  return cache;
}

describe("Cache.delete() with waitReplicas", () => {
  it("is applied once a replica has it, and pending while none has", async () => {
    await using primary = await startRedis();
    await using replica = await startRedis({
      args: ["--replicaof", "127.0.0.1", String(primary.port)],
    });
    await eventually(async () => {
      assertEquals((await replica.cli("ROLE")).split("\n")[3], "connected");
    });
    await using cache = await openCache(primary.url);

    await eventually(async () => assertEquals(await cache.delete("key"), "applied"));
    await cache.set("key", "old");
    await eventually(async () => assertEquals(await replica.cli("EXISTS", "la:1:{key}"), "1"));
    assertEquals(await cache.delete("key"), "applied");
    assertEquals(await replica.cli("EXISTS", "la:1:{key}"), "0");

    replica.pause();
    const startedAtMs = performance.now();
    assertEquals(await cache.delete("key"), "pending");
    assertLess(performance.now() - startedAtMs, 2_000);
    assertGreater(cache.stats().pendingInvalidations, 0);
    const read = await cache.getOrLoad("key", () => Promise.resolve("new"));
    assertEquals(read.value(), "new");

    replica.resume();
    await eventually(() => assertEquals(cache.stats().pendingInvalidations, 0));
    assertEquals(await cache.delete("key"), "applied");
  });
});
