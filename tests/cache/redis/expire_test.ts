import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type Runtime, systemRuntime } from "../../../cache/mod.ts";
import { startRedis } from "../../../tools/servers/redis_server.ts";
import { coherent, freshPrefix, openNode, Row } from "./nodes.ts";

/** The system's time as a machine has it whose wall clock is wrong. */
function skewed(skewMs: number): Runtime {
  const { clock } = systemRuntime;
  return { ...systemRuntime, clock: { ...clock, now: () => clock.now() + skewMs } };
}

describe("A value that another process has expired", () => {
  const clocks = { "is right": 0, "is 30 s fast": 30_000, "is 30 s slow": -30_000 };
  for (const [clock, skewMs] of Object.entries(clocks)) {
    it(`is stale from then on, and answered, where the clock of that process ${clock}`, async () => {
      await using redis = await startRedis();
      const prefix = freshPrefix();
      await using reader = openNode(redis.serviceUrl, { prefix });
      await using other = openNode(redis.serviceUrl, { prefix, runtime: skewed(skewMs) });
      await coherent(reader, other);
      for (const [key, ttlMs] of [["long", 60_000], ["short", 10_000]] as const) {
        await reader.cache.set(key, "old", { ttlMs, graceMs: 120_000 });
        assertEquals(await other.cache.expire(key), "applied");
        const row = new Row("new");
        const found = await reader.cache.getOrLoad(key, row.load);
        assertEquals([found.value(), found.stale], ["old", true]);
      }
    });
  }
});
