import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import { Cache } from "../../cache/mod.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { type RedisServer, startRedis } from "../../tools/servers/redis_server.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { cacheInUse, startService } from "../../tools/servers/service.ts";

const file = fileURLToPath(new URL("../../ops/redis.acl", import.meta.url));
const granted = (await Deno.readTextFile(file)).split(/\s+/)
  .filter((rule) => rule.startsWith("+")).map((rule) => rule.slice(1));
/** What a client of a Redis Cluster sends, and what mends a count that has lost its end. */
const seldom = [
  ...["asking", "cluster|info", "cluster|nodes", "cluster|slots"],
  ...["expire", "readonly", "readwrite", "zrem"],
];

describe("ops/redis.acl", () => {
  const stack = new AsyncDisposableStack();
  let redis: RedisServer;

  beforeAll(async () => {
    // Redis wants to write to it, too.
    const copy = stack.adopt(await Deno.makeTempFile(), (path) => Deno.remove(path));
    await Deno.copyFile(file, copy);
    redis = stack.use(await startRedis({ serviceUser: false, args: ["--aclfile", copy] }));
  });
  afterAll(() => stack.disposeAsync());

  it("lets nobody in until it was given a password", async () => {
    const answer = (password: string) =>
      redis.cli("--user", "lookaside", "--pass", password, "GET", "somebody:else");
    // Where it can't log in, redis-cli goes on as the user who may do everything.
    for (const password of ["", "lookaside", "s3cret"]) assertEquals(await answer(password), "");
    await redis.cli("ACL", "SETUSER", "lookaside", ">s3cret");
    assertMatch(await answer("s3cret"), /^NOPERM/);
  });

  for (
    const command of [
      ["GET", "lab:1:{k}"],
      ["SET", "somebody:else", "1"],
      ["EVAL", "return redis.call('GET', 'other')", "1", "other"],
      ["SUBSCRIBE", "news"],
      ["KEYS", "la:*"],
      ["FLUSHALL"],
      ["CONFIG", "GET", "*"],
      ["CLIENT", "KILL", "TYPE", "normal"],
      ["CLIENT", "LIST"],
      ["SCRIPT", "FLUSH"],
      ["ACL", "LIST"],
      ["DEBUG", "SLEEP", "0"],
      ["REPLICAOF", "NO", "ONE"],
    ]
  ) {
    it(`forbids ${command.join(" ")}`, async () => {
      const verdict = await redis.cli("ACL", "DRYRUN", "lookaside", ...command);
      assertMatch(verdict, /no permissions|no permission/);
    });
  }
});

describe("the user of ops/redis.acl", () => {
  const stack = new AsyncDisposableStack();
  let redis: RedisServer;

  beforeAll(async () => {
    redis = stack.use(await startRedis());
  });
  afterAll(() => stack.disposeAsync());

  it("may do all that the service and its cache do, and nothing that they do not", async () => {
    await useService(redis);
    await useCache(redis);
    const denied = (await redis.cli("ACL", "LOG")).split("\n");
    assertEquals(denied.filter((line) => line !== ""), []);
    const stats = await redis.cli("INFO", "commandstats");
    const used = [...stats.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)].map(([, name]) => name);
    const unused = granted.filter((name) => !used.includes(name));
    assertEquals(unused.sort(), seldom);
  });

  it("is noticed where it lacks a command", async () => {
    await redis.cli("ACL", "SETUSER", "lookaside", "-mget");
    const failed: string[] = [];
    const cache = new Cache({
      url: redis.serviceUrl,
      memoryBytes: 0,
      onEvent: (event) => {
        if (event.type === "redis-error") failed.push(event.command);
      },
    });
    try {
      await eventually(() => assertEquals(cache.stats().coherent, true));
      await Promise.all([cache.get("a"), cache.get("b")]);
      assertEquals(new Set(failed), new Set(["mget"]));
    } finally {
      await cache.close();
      await redis.cli("ACL", "SETUSER", "lookaside", "+mget");
    }
  });
});

/** Has the service send each kind of request. */
async function useService(redis: RedisServer): Promise<void> {
  await using database = await createSeededDatabase(30);
  await using service = await startService({
    env: { REDIS_URL: `${redis.serviceUrl}/1`, DATABASE_URL: database.url },
  });
  await cacheInUse(service);
  // Requests are counted in memory until the connection for that is made.
  await eventually(async () => {
    await (await service.fetch("/cache/stats")).body?.cancel();
    assertMatch(await redis.cli("-n", "1", "KEYS", "*:limit:*"), /:limit:/);
  });
  const headers = { "content-type": "application/json" };
  const body = JSON.stringify({ name: "N", email: "n@example.com", bio: "b" });
  for (
    const [path, init] of [
      ["/users?ids=2,3,4", {}],
      ["/users?page=1&limit=10", {}],
      ["/users/1", { method: "PUT", headers, body }],
      ["/cache/warm", { method: "POST" }],
      ["/cache/stats", {}],
      ["/cache", { method: "DELETE" }],
    ] as const
  ) {
    const response = await service.fetch(path, init);
    assertEquals(response.status, 200, `${path}: ${await response.text()}`);
    if (!response.bodyUsed) await response.body?.cancel();
  }
}

/** Has a cache do what the service does seldom: fail to load. */
async function useCache(redis: RedisServer): Promise<void> {
  await using cache = new Cache({
    url: redis.serviceUrl,
    memoryBytes: 0,
    commandTimeoutMs: 1_000,
  });
  await eventually(() => assertEquals(cache.stats().coherent, true));
  await assertRejects(() => cache.getOrLoad("k", () => Promise.reject(new Error("down"))));
  await cache.set("a", 1);
  assertEquals(await cache.expire("a"), "applied");
  await cache.getMany(["a", "b"]);
  assertEquals(await cache.delete("a"), "applied");
}
