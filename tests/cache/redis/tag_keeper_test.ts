import { assert, assertEquals, assertGreater } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { eventually } from "../../../tools/servers/eventually.ts";
import { Cache, systemRuntime } from "../../../cache/mod.ts";
import { startRedis } from "../../../tools/servers/redis_server.ts";

const DAY_MS = 24 * 60 * 60 * 1000;

describe("TagKeeper", () => {
  it("keeps a tag without a time to live, for longer than the longest entry under it", async () => {
    await using server = await startRedis();
    await using cache = new Cache({ url: server.url, jitterRatio: 0, commandTimeoutMs: 2_000 });
    await eventually(() => assert(cache.stats().coherent));
    const nowMs = Date.now();
    await cache.set("a", 1, { tags: ["users"], ttlMs: DAY_MS, graceMs: 0 });
    await cache.set("b", 1, { tags: ["users"], ttlMs: 5 * DAY_MS, graceMs: 0 });
    assertEquals(await server.cli("PTTL", "la:1:{users}:tag"), "-1");
    const score = Number(await server.cli("ZSCORE", "la:1:{*}:tags", "users"));
    assertGreater(score, nowMs + 5 * DAY_MS);
    await cache.invalidateTags("users");
    assertEquals(await server.cli("EXISTS", "la:1:{users}:tag"), "0"); // nobody uses it: it costs nothing
    assertEquals([await cache.has("a"), await cache.has("b")], [false, false]);
  });

  it("removes the tags that nobody has needed for long, and no others", async () => {
    await using server = await startRedis();
    let aheadMs = 0;
    const clock = { ...systemRuntime.clock, now: () => Date.now() + aheadMs };
    const runtime = { ...systemRuntime, clock };
    const options = { url: server.url, runtime, memoryBytes: 0, commandTimeoutMs: 2_000 };
    await using cache = new Cache(options);
    await eventually(() => assert(cache.stats().coherent));
    await cache.set("a", 1, { tags: ["old"], ttlMs: 1_000 });
    await cache.set("b", 1, { tags: ["lasting"], ttlMs: 10 * DAY_MS });
    aheadMs = 3 * DAY_MS;
    await cache.set("c", 1, { tags: ["new"] });
    await eventually(async () => assertEquals(await server.cli("EXISTS", "la:1:{old}:tag"), "0"));
    for (const tag of ["lasting", "new"]) {
      assertEquals(await server.cli("EXISTS", `la:1:{${tag}}:tag`), "1");
    }
    assertEquals(await server.cli("ZCARD", "la:1:{*}:tags"), "2");
    assertEquals((await cache.get("b"))?.value(), 1);
  });
});
