import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache } from "../../../cache/mod.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { startRedis } from "../../../tools/servers/redis_server.ts";

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
});
