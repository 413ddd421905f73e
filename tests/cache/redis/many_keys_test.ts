import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache } from "../../../cache/mod.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { startRedis } from "../../../tools/servers/redis_server.ts";
import { startTcpProxy } from "../../../tools/servers/tcp_proxy.ts";

/** More than one command takes. */
const NAMES = 250;

describe("An invalidation of many names", () => {
  it("takes a command for each hundred, and leaves none out", async () => {
    await using server = await startRedis();
    await using cache = new Cache({ url: server.url, commandTimeoutMs: 2_000 });
    await eventually(() => assert(cache.stats().coherent));
    const keys = Array.from({ length: NAMES }, (_, at) => `k${at}`);
    const tags = keys.map((key) => `tag ${key}`);
    await Promise.all(keys.map((key, at) => cache.set(key, at, { tags: [tags[at] ?? ""] })));
    await server.cli("CONFIG", "RESETSTAT");
    assertEquals(await cache.invalidateTags(tags), "applied");
    assertEquals(await unlinks(), 3);
    assertEquals((await cache.getMany(keys)).filter((each) => each !== undefined), []);
    await Promise.all(keys.map((key, at) => cache.set(key, at)));
    await server.cli("CONFIG", "RESETSTAT");
    assertEquals(await cache.delete(keys), "applied");
    assertEquals(await unlinks(), 3);
    assertEquals((await cache.getMany(keys)).filter((each) => each !== undefined), []);

    async function unlinks(): Promise<number> {
      const [, calls] =
        /cmdstat_unlink:calls=(\d+)/.exec(await server.cli("INFO", "commandstats")) ??
          [];
      return Number(calls);
    }
  });

  it("waits for answers before it sends more than a thousand, so that no command runs out of time", async () => {
    await using server = await startRedis();
    await using link = unansweredThrough(server.port);
    await using cache = new Cache({ url: link.url, commandTimeoutMs: 5_000, memoryLeaseMs: 5_000 });
    await eventually(() => assert(cache.stats().coherent));
    const names = Array.from({ length: 20_000 }, (_, at) => `name ${at}`);
    const ways = [
      () => cache.delete(names),
      () => cache.invalidateTags(names),
      () => cache.expire(names),
    ];
    for (const way of ways) {
      link.forget();
      await server.cli("CLIENT", "PAUSE", "300", "ALL"); // whatever is sent at once is sent before an answer
      assertEquals(await way(), "applied");
      assert(link.bytesMax < 500_000, `${link.bytesMax} bytes for ${way}`);
    }
  });
});

describe("A read of many keys", () => {
  it("waits for answers before it asks for more than a thousand, and finds them all", async () => {
    await using server = await startRedis();
    await using link = unansweredThrough(server.port);
    await using cache = new Cache({ url: link.url, commandTimeoutMs: 5_000, memoryBytes: 0 });
    await eventually(() => assert(cache.stats().coherent));
    const keys = Array.from({ length: 20_000 }, (_, at) => `key ${at}`);
    await cache.getOrLoadMany(
      keys,
      (missing) => Promise.resolve(new Map(missing.map((key) => [key, key]))),
    );
    await eventually(async () => assert(await cache.has("key 19999")));
    link.forget();
    await server.cli("CLIENT", "PAUSE", "300", "ALL");
    const found = await cache.getMany(keys);
    assertEquals(found.map((lookup) => lookup?.value()), keys);
    assert(link.bytesMax < 200_000, `${link.bytesMax} bytes`);
  });
});

describe("Many calls at once, each for one key,", () => {
  it("wait for answers to two thousand keys, so that this process can keep up with them", async () => {
    await using server = await startRedis();
    await using link = unansweredThrough(server.port);
    await using cache = new Cache({ url: link.url, commandTimeoutMs: 5_000, memoryBytes: 0 });
    await eventually(() => assert(cache.stats().coherent));
    const keys = Array.from({ length: 20_000 }, (_, at) => `key ${at}`);
    const ways: readonly (readonly [(key: string) => Promise<unknown>, string])[] = [
      [(key) => cache.set(key, key), "applied"],
      [async (key) => (await cache.get(key))?.source, "redis"],
    ];
    for (const [way, outcome] of ways) {
      link.forget();
      await server.cli("CLIENT", "PAUSE", "300", "ALL");
      const outcomes = await Promise.all(keys.map((key) => way(key)));
      assertEquals([...new Set(outcomes)], [outcome], String(way));
      assert(link.bytesMax < 400_000, `${link.bytesMax} bytes for ${way}`);
    }
  });
});

/** A way to a server that counts the bytes that are sent before an answer comes. */
function unansweredThrough(port: number) {
  let unanswered = 0;
  let bytesMax = 0;
  const observe = () => ({
    sent: (chunk: Uint8Array) => bytesMax = Math.max(bytesMax, unanswered += chunk.length),
    received: () => unanswered = 0,
    closed: () => undefined,
  });
  const proxy = startTcpProxy(port, { observe });
  return {
    url: `redis://127.0.0.1:${proxy.port}`,
    /** The most since the last {@linkcode forget}. */
    get bytesMax() {
      return bytesMax;
    },
    forget: () => {
      bytesMax = 0;
    },
    [Symbol.asyncDispose]: () => proxy[Symbol.asyncDispose](),
  };
}
