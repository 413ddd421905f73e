import { assert, assertEquals, assertGreater } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Buffer } from "node:buffer";
import { Cache, type CacheEvent } from "../../../cache/mod.ts";
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

  it("leaves the value of one where several set a key at once", async () => {
    await using redis = await startRedis();
    await using first = new Cache({ url: redis.url });
    await using second = new Cache({ url: redis.url });
    const caches = [first, second];
    await Promise.all(caches.map(coherent));
    for (let round = 0; round < 50; round++) {
      const setting = caches.map((cache, at) => cache.set("a", `v${2 * round + at}`));
      assertEquals(await Promise.all(setting), ["applied", "applied"]);
      const [, value] = /"v(\d+)"$/.exec(await redis.cli("GET", "la:1:{a}")) ?? [];
      assertEquals(Math.floor(Number(value) / 2), round);
    }
  });

  it("leaves no moment without a value", async () => {
    await using redis = await startRedis();
    let caughtUp = 0;
    const onEvent = ({ type }: CacheEvent) => void (type === "caught-up" && caughtUp++);
    const patient = { url: redis.url, commandTimeoutMs: 5_000, memoryLeaseMs: 5_000, onEvent };
    await using reader = new Cache({ ...patient, memoryBytes: 0 });
    await using cache = new Cache(patient);
    await eventually(() => assertEquals(caughtUp, 2));
    await cache.set("a", 0);
    let isOver = false;
    let missing = 0;
    const reading = (async () => {
      while (!isOver && missing === 0) if (await reader.get("a") === undefined) missing++;
    })();
    for (let round = 0; round < 100; round++) {
      assertEquals(await cache.set("a", round), "applied");
    }
    isOver = true;
    await reading;
    assertEquals(missing, 0);
  });

  it("takes few commands for many keys, and none for more than sixteen", async () => {
    await using redis = await startRedis();
    await using cache = new Cache({ url: redis.url, commandTimeoutMs: 2_000 });
    await coherent(cache);
    await cache.set("a", "stored"); // Redis has the scripts
    await redis.cli("CONFIG", "RESETSTAT");
    const keys = Array.from({ length: 1_600 }, (_, at) => `k${at}`);
    await Promise.all(keys.map((key) => cache.set(key, key)));
    const stats = await redis.cli("INFO", "commandstats");
    const calls = Number(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1]);
    assert(calls >= 200 && calls < 800, `${calls} calls`);
    assertEquals((await cache.getMany(keys)).map((found) => found?.value()), keys);
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
