import { assert, assertEquals, assertGreater } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Buffer } from "node:buffer";
import { Cache } from "../../../cache/mod.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { startRedis } from "../../../tools/servers/redis_server.ts";
import { type ProxyObserver, startTcpProxy } from "../../../tools/servers/tcp_proxy.ts";

async function coherent(cache: Cache): Promise<void> {
  await eventually(() => assert(cache.stats().coherent));
}

describe("set() on Redis", () => {
  it("stores nothing that arrives after a later delete was applied over another connection", async () => {
    await using redis = await startRedis();
    const held: Uint8Array[] = [];
    await using proxy = startTcpProxy(redis.port, { observe: () => holding("abandoned", held) });
    const url = `redis://127.0.0.1:${proxy.port}`;
    await using cache = new Cache({ url, commandTimeoutMs: 250, memoryLeaseMs: 10_000 });
    await coherent(cache);
    assertEquals(await cache.set("a", "stored"), "applied"); // Redis has the scripts
    assertEquals(await cache.set("a", "abandoned"), "pending");
    await eventually(async () => assertEquals(await cache.delete("a"), "applied"));
    assertGreater(held.length, 0);
    using late = await Deno.connect({ hostname: "127.0.0.1", port: redis.port });
    await late.write(Buffer.concat(held)); // as a network does that is whole again
    await late.read(new Uint8Array(1));
    assertEquals(await redis.cli("EXISTS", "la:1:{a}"), "0");
  });

  it("leaves nothing old where Redis evicts its lease", async () => {
    await using redis = await startRedis();
    const leased = Promise.withResolvers<void>();
    const observe = () => afterReplyTo("la:1:lease:{a}", () => (proxy.hang(), leased.resolve()));
    const proxy = startTcpProxy(redis.port, { observe });
    await using _ = proxy;
    const url = `redis://127.0.0.1:${proxy.port}`;
    await using cache = new Cache({ url, commandTimeoutMs: 2_000, memoryLeaseMs: 10_000 });
    await using writer = new Cache({ url: redis.url });
    await coherent(cache);
    await writer.set("a", "old");
    const setting = cache.set("a", "new");
    await leased.promise;
    assertEquals(await redis.cli("DEL", "la:1:lease:{a}"), "1");
    proxy.pass();
    assertEquals(await setting, "applied");
    assertEquals(await writer.get("a"), undefined);
  });

  it("leaves the value of one where several set a key at once, and readers find it at all times", async () => {
    await using redis = await startRedis();
    const open = () => new Cache({ url: redis.url });
    await using reader = open();
    await using first = open();
    await using second = open();
    const caches = [first, second];
    await Promise.all([reader, ...caches].map(coherent));
    await reader.set("a", -1);
    for (let round = 0; round < 50; round++) {
      const setting = Promise.all(caches.map((cache, at) => cache.set("a", 2 * round + at)));
      const found = await Promise.all(Array.from({ length: 10 }, () => reader.get("a")));
      assertEquals(found.includes(undefined), false);
      assertEquals(await setting, ["applied", "applied"]);
      const [value = ""] = /\d+$/.exec(await redis.cli("GET", "la:1:{a}")) ?? [];
      assertEquals(Math.floor(Number(value) / 2), round);
    }
  });

  it("replaces the value of the previous and of the next version too", async () => {
    await using redis = await startRedis();
    await using previous = new Cache({ url: redis.url, version: 1 });
    await using cache = new Cache({ url: redis.url, version: 2 });
    await using next = new Cache({ url: redis.url, version: 3 });
    for (const other of [previous, next]) {
      await other.set("a", "old");
      assertEquals(await cache.set("a", "new"), "applied");
      await eventually(async () => assertEquals(await other.get("a"), undefined));
    }
  });
});

/**
 * Keeps back the first chunk with a text, and drops what follows over the same connection: behind an open
 * breaker nothing would.
 */
function holding(text: string, held: Uint8Array[]): ProxyObserver {
  let holds = false;
  return {
    sent: (chunk) => {
      if (holds || !Buffer.from(chunk).includes(text)) return;
      holds = true;
      held.push(chunk.slice());
    },
    received: () => undefined,
    drops: () => holds,
    closed: () => undefined,
  };
}

/** Calls once when the reply to the first chunk with a text is about to be forwarded. */
function afterReplyTo(text: string, call: () => void): ProxyObserver {
  let isDue = false;
  let isDone = false;
  return {
    sent: (chunk) => void (isDue ||= Buffer.from(chunk).includes(text)),
    received: () => {
      if (!isDue || isDone) return;
      isDone = true;
      call();
    },
    closed: () => undefined,
  };
}
