/**
 * Credentials that do not stand in the URL, on each topology: what they are is asked for at each attempt.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache, type CacheEvent, type RedisAccess } from "../../../cache/mod.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { startRedisCluster } from "../../../tools/servers/redis_cluster.ts";
import { startRedisSentinel } from "../../../tools/servers/redis_sentinel.ts";
import { type RedisServer, startRedis } from "../../../tools/servers/redis_server.ts";

const LATER = { deadlineMs: 20_000 };
/** Redis and its feed both answer: what one process writes is a hit in memory, and gone when it is deleted. */
async function assertInUse(cache: Cache): Promise<void> {
  await eventually(async () => {
    const key = crypto.randomUUID();
    assertEquals(await cache.set(key, 1), "applied");
    assertEquals((await cache.get(key))?.source, "redis");
    assertEquals((await cache.get(key))?.source, "memory");
  }, LATER);
}

/** A user with a password that is replaced, and the URL without either. */
async function giveUser(servers: readonly RedisServer[], password: string): Promise<void> {
  for (const server of servers) {
    const user = ["ACL", "SETUSER", "app", "on", "resetpass", `>${password}`, "~*", "&*", "+@all"];
    await server.cli(...user);
    await server.cli("ACL", "SETUSER", "default", "-get", "-set", "-client|tracking");
    await server.cli("CLIENT", "KILL", "USER", "app");
  }
}

describe("the option connect", () => {
  const topologies = {
    "one server": async () => {
      const server = await startRedis();
      return { url: server.url, servers: [server], end: () => server[Symbol.asyncDispose]() };
    },
    "a Cluster": async () => {
      const cluster = await startRedisCluster({ replicas: 0 });
      const { url, servers } = cluster;
      return { url, servers, end: () => cluster[Symbol.asyncDispose]() };
    },
  };
  for (const [name, start] of Object.entries(topologies)) {
    it(`is asked again when ${name} has hung up`, async () => {
      const { url, servers, end } = await start();
      try {
        await giveUser(servers, "one");
        const access: RedisAccess[] = [{ username: "app", password: "one" }];
        await using cache = new Cache({ url, connect: () => access.at(-1) ?? {} });
        await assertInUse(cache);
        access.push({ username: "app", password: "two" });
        await giveUser(servers, "two");
        await eventually(() => assertEquals(cache.stats().coherent, true), LATER);
        await assertInUse(cache);
      } finally {
        await end();
      }
    });
  }

  it("is tried again with the previous credentials if it throws, which ends no process", async () => {
    await using server = await startRedis();
    await giveUser([server], "one");
    let isExpired = false;
    const connect = () => {
      if (isExpired) throw new Error("the token cannot be renewed");
      return { username: "app", password: "one" };
    };
    const told: string[] = [];
    const onEvent = (event: CacheEvent) => void ("error" in event && told.push(`${event.error}`));
    await using cache = new Cache({ url: server.url, connect, onEvent });
    await assertInUse(cache);
    isExpired = true;
    await server.cli("CLIENT", "KILL", "USER", "app");
    await eventually(() => assert(told.includes("Error: the token cannot be renewed")), LATER);
    await assertInUse(cache);
  });

  it("must return an access, or anybody would be logged in", () => {
    const none = [{ user: "app" }, Promise.resolve({ username: "app" }), undefined, null, "app"];
    for (const access of none) {
      const connect = () => access as RedisAccess;
      assertThrows(
        () => new Cache({ url: "redis://127.0.0.1:1", connect }),
        TypeError,
        "Cannot use",
      );
    }
  });

  it("has credentials for Sentinels", async () => {
    await using topology = await startRedisSentinel();
    for (const sentinel of topology.sentinels) {
      await sentinel.cli("ACL", "SETUSER", "watcher", "on", ">pw", "~*", "&*", "+@all");
      await sentinel.cli("ACL", "SETUSER", "default", "-sentinel|master");
    }
    const errors: unknown[] = [];
    await using stranger = new Cache({
      url: topology.url,
      onEvent: (event) => void (event.type === "redis-error" && errors.push(event.error)),
    });
    await eventually(() => assertEquals(errors.length > 0, true), LATER);
    assertEquals(stranger.stats().reachable, false);
    const connect = () => ({ sentinelUsername: "watcher", sentinelPassword: "pw" });
    await using cache = new Cache({ url: topology.url, connect });
    await assertInUse(cache);
  });
});
