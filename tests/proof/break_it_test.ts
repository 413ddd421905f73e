import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { BreakIt, type Surroundings } from "../../proof/break_it/break_it.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { startRedis } from "../../tools/servers/redis_server.ts";
import { createTestDatabase } from "../support/test_database.ts";

/** A machine without `redis-server`, on which the service uses some Redis. */
function without(redisUrl: string): Surroundings {
  return {
    redisUrl,
    hasRedisServer: () => Promise.resolve(false),
    async openDatabase() {
      const { url, [Symbol.asyncDispose]: drop } = await createTestDatabase();
      return { url, listens: true, [Symbol.asyncDispose]: drop };
    },
  };
}

describe("BreakIt", () => {
  it("says what is missing where there is no Redis at all, and starts nothing", async () => {
    await using breakIt = new BreakIt(without("memory:"));
    const { unavailable, running } = await breakIt.state();
    assertMatch(unavailable ?? "", /^There is no Redis to break\. Install redis-server/);
    assertEquals(await breakIt.act("start"), unavailable);
    assertEquals([running, (await breakIt.state()).running], [false, false]);
  });

  it("leaves alone a Redis that is not its own, and says so on the buttons", async () => {
    await using redis = await startRedis();
    await using breakIt = new BreakIt(without(redis.url));
    const { deeds, unavailable } = await breakIt.state();
    assertEquals(unavailable, undefined);
    const refused = deeds.filter((deed) => deed.refused !== undefined).map(({ id }) => id);
    assertEquals(refused, ["stop-redis", "kill-feed", "old-file"]);
    const { pid } = redis;
    assertMatch(await breakIt.act("start"), /^Both caches serve/);
    for (const id of refused) {
      assertMatch(
        await breakIt.act(id),
        /^This Redis was not started by the program; with redis-server/,
      );
    }
    assertEquals([redis.running, redis.pid], [true, pid]);
    await eventually(async () => {
      const [recipe] = (await breakIt.state()).caches;
      assert((recipe?.reads ?? 0) > 100, "the recipe has cached little yet");
    });
    assertMatch(await breakIt.act("update-past"), /^psql updated every row/);
    await eventually(async () => {
      const { caches: [recipe, lookaside] } = await breakIt.state();
      assertEquals([(recipe?.stale ?? 0) > 0, lookaside?.stale], [true, 0]);
    });
    assertEquals(await breakIt.act("stop"), "Stopped");
  });

  it("does one thing at a time, and nothing that it does not know", async () => {
    await using redis = await startRedis();
    await using breakIt = new BreakIt(without(redis.url));
    const starting = breakIt.act("start");
    await eventually(async () => assertEquals((await breakIt.state()).busy, "starting"));
    assertEquals(await breakIt.act("stop"), "Not now: starting");
    await starting;
    assertMatch(await breakIt.act("format-disk"), /^Failed: Cannot do format-disk/);
    assertEquals((await breakIt.state()).busy, undefined);
  });
});
