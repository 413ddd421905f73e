import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { setImmediate as turn } from "node:timers/promises";
import { Cache, type CacheEvent, type Clock, systemRuntime } from "../../../cache/mod.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { startRedis } from "../../../tools/servers/redis_server.ts";
import { startTcpProxy } from "../../../tools/servers/tcp_proxy.ts";

/** Long enough for Redis on a busy machine. Four times as long, it may be silent. */
const COMMAND_TIMEOUT_MS = 250;

/** A cache, and how often its connection was lost. */
function openCache(port: number, runtime = systemRuntime) {
  const events: CacheEvent[] = [];
  const cache = new Cache({
    url: `redis://127.0.0.1:${port}`,
    commandTimeoutMs: COMMAND_TIMEOUT_MS,
    memoryLeaseMs: 10_000,
    runtime,
    onEvent: (event) => void events.push(event),
  });
  const lost = () => events.filter((each) => each.type === "connection" && !each.connected).length;
  return { cache, lost, events };
}

describe("a connection that is silent", () => {
  for (const lateMs of [0, 30]) {
    it(`is given up, and another one is made, where timers are ${lateMs} ms late`, async () => {
      await using redis = await startRedis();
      await using proxy = startTcpProxy(redis.port);
      const after: Clock["after"] = (ms, run) => systemRuntime.clock.after(ms + lateMs, run);
      const clock = { ...systemRuntime.clock, after };
      const { cache, lost } = openCache(proxy.port, { ...systemRuntime, clock });
      await using _ = cache;
      await eventually(async () => assertEquals(await cache.set("a", 1), "applied"));
      proxy.hang();
      await eventually(async () => {
        await cache.set("a", 2);
        assertEquals(lost() > 0, true);
      });
      proxy.pass();
      await eventually(async () => assertEquals(await cache.set("a", 3), "applied"));
    });
  }

  it("is given up also if it never answered", async () => {
    await using redis = await startRedis();
    await using proxy = startTcpProxy(redis.port);
    proxy.hang();
    const { cache, events } = openCache(proxy.port);
    await using _ = cache;
    await eventually(() => {
      assert(events.some((each) => each.type === "redis-error" && /silent/.test(`${each.error}`)));
    });
    proxy.pass();
    await eventually(async () => assertEquals(await cache.set("a", 1), "applied"));
  });

  it("is kept where this process was busy, however long", async () => {
    await using redis = await startRedis();
    const { cache, lost, events } = openCache(redis.port);
    await using _ = cache;
    await eventually(async () => assertEquals(await cache.set("a", 1), "applied"));
    await eventually(() => assertEquals(cache.stats().coherent, true));
    await eventually(() => assert(events.some(({ type }) => type === "caught-up")));
    const before = events.length;
    for (let round = 0; round < 2; round++) {
      const writing = cache.set("a", round);
      await turn(); // it is sent
      const endsAtMs = performance.now() + 5 * COMMAND_TIMEOUT_MS;
      while (performance.now() < endsAtMs); // longer than silence may last
      assertEquals([await writing, events.slice(before)], ["applied", []]);
    }
    assertEquals(lost(), 0);
  });

  it("is kept where nothing is awaited", async () => {
    await using redis = await startRedis();
    const { cache, lost } = openCache(redis.port);
    await using _ = cache;
    await eventually(async () => assertEquals(await cache.set("a", 1), "applied"));
    await new Promise((resolve) => setTimeout(resolve, 5 * COMMAND_TIMEOUT_MS));
    await eventually(async () => assertEquals(await cache.set("a", 2), "applied"));
    assertEquals(lost(), 0);
  });
});
