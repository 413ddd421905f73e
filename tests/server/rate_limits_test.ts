import { assertEquals, assertGreater, assertLess, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { Redis } from "ioredis";
import { RateLimits } from "../../server/rate_limits.ts";
import type { RateLimiter } from "../../routes/app.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { freePort } from "../../tools/servers/free_port.ts";
import { startRedisCluster } from "../../tools/servers/redis_cluster.ts";
import { startRedisSentinel } from "../../tools/servers/redis_sentinel.ts";
import { type RedisServer, startRedis } from "../../tools/servers/redis_server.ts";
import { ownTime } from "../support/own_time.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { startService } from "../../tools/servers/service.ts";

const commandTimeoutMs = 250;

describe("RateLimits", () => {
  const stack = new AsyncDisposableStack();
  let redis: RedisServer;

  beforeAll(async () => {
    redis = stack.use(await startRedis());
  });
  afterAll(() => stack.disposeAsync());

  function options(prefix: string, url = redis.serviceUrl) {
    return { url, prefix, commandTimeoutMs };
  }

  it("count what a client asks of all instances together", async () => {
    const prefix = "ttogether";
    await using one = new RateLimits(options(prefix));
    await using other = new RateLimits(options(prefix));
    const [here, there] = [one.perMinute("admin", 3), other.perMinute("admin", 3)];
    await inRedis(redis, here, there);
    const key = `${prefix}:limit:admin:9.9.9.9`;
    assertEquals((await here.take("9.9.9.9")).remaining, 2);
    assertEquals((await there.take("9.9.9.9")).remaining, 1);
    assertEquals((await here.take("9.9.9.9")).allowed, true);
    const refused = await there.take("9.9.9.9");
    assertEquals([refused.allowed, refused.remaining], [false, 0]);
    assertGreater(refused.resetMs, 0);
    assertEquals((await here.take("8.8.8.8")).allowed, true);
    assertEquals(await redis.cli("GET", key), "4");
    assertGreater(Number(await redis.cli("PTTL", key)), 50_000);
    assertEquals(await redis.cli("ACL", "LOG"), "");
  });

  it("do not ask Redis again of a client that is past them", async () => {
    await using limits = new RateLimits(options("tpast"));
    const limiter = limits.perMinute("admin", 1);
    await inRedis(redis, limiter);
    for (let i = 0; i < 5; i++) await limiter.take("9.9.9.9");
    assertEquals(await redis.cli("GET", "tpast:limit:admin:9.9.9.9"), "2");
    assertEquals((await limiter.take("9.9.9.9")).allowed, false);
  });

  it("are no news to the feed of the cache", async () => {
    const prefix = "tfeed";
    await using limits = new RateLimits(options(prefix));
    const limiter = limits.perMinute("admin", 1_000);
    await inRedis(redis, limiter);
    await using feed = await followed(redis, `${prefix}:1:`);
    for (let i = 0; i < 20; i++) await limiter.take(`9.9.9.${i}`);
    await redis.cli("SET", `${prefix}:1:{mark}`, "1");
    await eventually(() => assertEquals(feed.keys, [`${prefix}:1:{mark}`]));
  });

  for (const name of ["killed", "frozen"] as const) {
    it(`go on in memory while Redis is ${name}, and never refuse for it`, async () => {
      using time = ownTime();
      await using server = await startRedis();
      await using limits = new RateLimits(options("taway", server.serviceUrl));
      const limiter = limits.perMinute("admin", 3);
      await inRedis(server, limiter);
      if (name === "killed") await server.kill();
      else server.pause();
      const startedAtMs = time.now();
      const allowed = [];
      for (let i = 0; i < 5; i++) allowed.push((await limiter.take("9.9.9.9")).allowed);
      assertEquals(allowed, [true, true, true, false, false]);
      // One has waited for it, and the others have not.
      assertLess(time.now() - startedAtMs, 2 * commandTimeoutMs);
      if (name === "killed") await server.start();
      else server.resume();
      await inRedis(server, limiter);
    });
  }

  it("are counted on a Cluster, and wait for no new primary", async () => {
    using time = ownTime();
    await using cluster = await startRedisCluster();
    await using limits = new RateLimits(options("tcluster", cluster.serviceUrl));
    const limiter = limits.perMinute("admin", 100);
    await eventually(async () => {
      await limiter.take("9.9.9.9");
      const owner = await cluster.ownerOf("tcluster:limit:admin:9.9.9.9");
      assertGreater(Number(await owner.cli("GET", "tcluster:limit:admin:9.9.9.9")), 0);
    });
    const [first, second] = await cluster.primaries();
    await Promise.all([first?.kill(), second?.kill()]);
    const startedAtMs = time.now();
    for (let i = 0; i < 20; i++) {
      assertEquals((await limiter.take(`8.8.8.${i}`)).allowed, true);
    }
    assertLess(time.now() - startedAtMs, commandTimeoutMs);
  });

  it("are counted on a Cluster whose servers are named, where only those names are permitted", async () => {
    await using cluster = await startRedisCluster();
    await using database = await createSeededDatabase(10);
    const env = {
      REDIS_URL: cluster.serviceUrl.replaceAll("127.0.0.1", "localhost"),
      REDIS_NODES: cluster.servers.map(({ port }) => `127.0.0.1:${port}`).join(","),
      DATABASE_URL: database.url,
      CACHE_PREFIX: "tnamed",
    };
    await using service = await startService({ env });
    const key = "tnamed:limit:admin:127.0.0.1";
    const owner = await cluster.ownerOf(key);
    await eventually(async () => {
      await (await service.fetch("/cache/stats")).body?.cancel();
      assertGreater(Number(await owner.cli("GET", key)), 0);
    });
  });

  it("are counted by the primary that Sentinels name, and by its successor", async () => {
    await using sentinel = await startRedisSentinel();
    await using limits = new RateLimits(options("tsentinel", sentinel.serviceUrl));
    const limiter = limits.perMinute("admin", 1_000);
    const before = await sentinel.primary();
    await inRedis(before, limiter);
    await before.kill();
    await inRedis(await sentinel.primaryAfter(before), limiter);
  });

  it("are a process's own without a Redis", async () => {
    await using limits = new RateLimits(options("t", "memory:"));
    const limiter = limits.perMinute("admin", 1);
    assertEquals((await limiter.take("a")).allowed, true);
    assertEquals((await limiter.take("a")).allowed, false);
    assertEquals((await limiter.take("b")).allowed, true);
  });

  it("hold for the service, which asks for a token behind them", async () => {
    await using database = await createSeededDatabase(10);
    const env = {
      REDIS_URL: redis.serviceUrl,
      DATABASE_URL: database.url,
      CACHE_PREFIX: "tserved",
      ADMIN_TOKEN: "new-token,old-token",
      ADMIN_RATE_LIMIT: "20",
      TRUST_PROXY: "1",
    };
    await using service = await startService({ env });
    const ask = async (client: string, token: string) => {
      const response = await service.fetch("/cache/stats", {
        headers: { "x-forwarded-for": client, authorization: `Bearer ${token}` },
      });
      await response.body?.cancel();
      return response.status;
    };
    for (const token of ["new-token", "old-token"]) assertEquals(await ask("1.1.1.1", token), 200);
    await eventually(async () => assertEquals(await ask("2.2.2.2", "guess"), 429));
    // Behind a proxy that is not trusted, whoever has the token may come from where others guess.
    assertEquals(await ask("2.2.2.2", "new-token"), 200);
    assertEquals(await ask("1.1.1.1", "new-token"), 200);
    const open = await service.fetch("/users/1");
    await open.body?.cancel();
    assertEquals(open.status, 200);
  });

  it("count in Redis from the first request of a service, or say that they do not", async () => {
    await using database = await createSeededDatabase(10);
    const env = {
      DATABASE_URL: database.url,
      CACHE_PREFIX: "tfirst",
      CLIENT_RATE_LIMIT: "9",
      REDIS_COMMAND_TIMEOUT_MS: "2000",
    };
    for (
      const [url, policy] of [
        [redis.serviceUrl, '"client";q=9;w=60'],
        ["memory:", '"client";q=9;w=60;local'],
      ] as const
    ) {
      await using service = await startService({ env: { ...env, REDIS_URL: url } });
      const first = await service.fetch("/users/1");
      await first.body?.cancel();
      assertEquals(first.headers.get("ratelimit-policy"), policy);
    }
    assertEquals(await redis.cli("GET", "tfirst:limit:client:127.0.0.1"), "1");
  });

  it("know a client by where its connection comes from, whatever it claims", async () => {
    await using database = await createSeededDatabase(10);
    const env = {
      REDIS_URL: redis.serviceUrl,
      DATABASE_URL: database.url,
      CACHE_PREFIX: "tremote",
    };
    await using service = await startService({ env });
    await eventually(async () => {
      const response = await service.fetch("/cache/stats", {
        headers: { "x-forwarded-for": "1.1.1.1" },
      });
      await response.body?.cancel();
      assertEquals(await redis.cli("KEYS", "tremote:limit:*"), "tremote:limit:admin:127.0.0.1");
    });
  });

  it("do not keep the service from answering where nothing listens at REDIS_URL", async () => {
    await using database = await createSeededDatabase(10);
    const env = {
      REDIS_URL: `redis://127.0.0.1:${freePort()}`,
      DATABASE_URL: database.url,
      CLIENT_RATE_LIMIT: "1000",
    };
    await using service = await startService({ env });
    for (const path of ["/users/1", "/cache/stats"]) {
      const response = await service.fetch(path);
      await response.body?.cancel();
      assertEquals(response.status, 200);
    }
  });
});

/** Waits until limits are counted in Redis: before its connection is made, they are in memory. */
async function inRedis(server: RedisServer, ...limiters: readonly RateLimiter[]): Promise<void> {
  for (const limiter of limiters) {
    await eventually(async () => {
      const client = crypto.randomUUID();
      await limiter.take(client);
      assertMatch(await server.cli("KEYS", `*:${client}`), /:limit:/);
    });
  }
}

/** What Redis announces of keys under a prefix to whoever follows them as the cache does. */
async function followed(
  server: RedisServer,
  prefix: string,
): Promise<{ readonly keys: readonly string[] } & AsyncDisposable> {
  const client = new Redis(server.url, { protocol: 2 });
  const keys: string[] = [];
  client.on("messageBuffer", (_channel: unknown, announced: unknown) => {
    if (Array.isArray(announced)) keys.push(...announced.map(String));
  });
  const id = await client.client("ID");
  await client.call("CLIENT", "TRACKING", "ON", "REDIRECT", `${id}`, "BCAST", "PREFIX", prefix);
  await client.subscribe("__redis__:invalidate");
  return {
    keys,
    [Symbol.asyncDispose]: async () => void await client.quit(),
  };
}
