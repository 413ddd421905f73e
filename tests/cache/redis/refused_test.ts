import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { beforeAll, describe, it } from "@std/testing/bdd";
import type { CacheOptions } from "../../../cache/mod.ts";
import { NO_CHANGES } from "../../../cache/changes.ts";
import { setTimeout as delay } from "node:timers/promises";
import { eventually } from "../../../tools/servers/eventually.ts";
import { startRedisCluster } from "../../../tools/servers/redis_cluster.ts";
import { type RedisServer, startRedis } from "../../../tools/servers/redis_server.ts";
import { coherent, freshPrefix, holdInMemory, openNode, QUIET, Row } from "./nodes.ts";

/** An error that Redis answers: how it comes about and ends, and whether keys can be removed meanwhile. */
interface Refusal {
  readonly begin: (redis: RedisServer) => Promise<unknown>;
  readonly end: (redis: RedisServer) => Promise<unknown>;
  readonly removes: boolean;
}

function config(name: string, value: string) {
  return (redis: RedisServer): Promise<string> => redis.cli("CONFIG", "SET", name, value);
}

const REFUSALS: Readonly<Record<string, Refusal>> = {
  "OOM": { begin: config("maxmemory", "1"), end: config("maxmemory", "0"), removes: true },
  "NOPERM of what writes": {
    begin: (redis) => redis.cli("ACL", "SETUSER", "lookaside", "-set"),
    end: (redis) => redis.cli("ACL", "SETUSER", "lookaside", "+set"),
    removes: true,
  },
  "NOREPLICAS": {
    begin: config("min-replicas-to-write", "1"),
    end: config("min-replicas-to-write", "0"),
    removes: false,
  },
  "MISCONF": {
    begin: async (redis) => {
      await redis.cli("CONFIG", "SET", "save", "3600 1");
      const [, folder = ""] = (await redis.cli("CONFIG", "GET", "dir")).split("\n");
      await Deno.remove(folder, { recursive: true });
      await redis.cli("BGSAVE");
      await eventually(async () => {
        const info = await redis.cli("INFO", "persistence");
        assertEquals(/last_bgsave_status:(\w+)/.exec(info)?.[1], "err");
      });
      await Deno.mkdir(folder); // whoever ends the server removes it
    },
    end: config("stop-writes-on-bgsave-error", "no"),
    removes: false,
  },
  "READONLY": {
    begin: (redis) => redis.cli("REPLICAOF", "127.0.0.1", "1"),
    end: (redis) => redis.cli("REPLICAOF", "NO", "ONE"),
    removes: false,
  },
};

describe("An error that Redis answers", () => {
  for (const [name, { begin, end, removes }] of Object.entries(REFUSALS)) {
    it(`${name}: ${removes ? "is no debt" : "is a debt until it ends"}, opens no breaker, and nothing old is answered`, async () => {
      await using redis = await startRedis();
      await using node = openNode(redis.serviceUrl, { prefix: freshPrefix() });
      const { cache } = node;
      await coherent(node);
      const row = new Row("old");
      const keys = ["set", "delete", "tag", "expire", "clear"];
      const read = (key: string) => cache.getOrLoad(key, row.load, { tags: [`of ${key}`] });
      for (const key of keys) await read(key);
      await eventually(async () => assertEquals((await read("clear")).source, "memory"));

      await begin(redis);
      row.value = "new";
      const outcome = removes ? "applied" : "pending";
      assertEquals(await cache.set("set", "new"), outcome);
      assertEquals(await cache.delete("delete"), outcome);
      assertEquals(await cache.invalidateTags("of tag"), outcome);
      await cache.expire("expire");
      for (const key of ["set", "delete", "tag"]) assertEquals((await read(key)).value(), "new");
      assertEquals(await cache.clear(), outcome);
      for (const key of keys) {
        const found = await read(key);
        assertEquals(found.value(), "new");
      }
      // More than it takes to open the breaker.
      for (let n = 0; n < 20; n++) await cache.set(`more ${n}`, n);
      const { breaker, pendingInvalidations } = cache.stats();
      // A server that says READONLY is left, and commands fail meanwhile that were not answered.
      if (name !== "READONLY") assertEquals([node.count("breaker"), breaker], [0, "closed"]);
      if (removes) assertEquals(pendingInvalidations, 0);
      else assertNotEquals(pendingInvalidations, 0);
      assertNotEquals(node.count("redis-error"), 0);

      await end(redis);
      await eventually(async () => {
        assertEquals(cache.stats().pendingInvalidations, 0);
        for (const key of keys) assertEquals((await read(key)).source, "memory");
      });
      for (const key of keys) assertEquals((await read(key)).value(), "new");
    });
  }

  it("WRONGTYPE, on every key of ours at once, is no debt, opens no breaker, and is overwritten", async () => {
    await using redis = await startRedis();
    const options: CacheOptions = {
      changes: { attach: () => ({ ...NO_CHANGES, source: () => Promise.resolve("shop") }) },
    };
    await using first = openNode(redis.serviceUrl, options);
    await coherent(first);
    const row = new Row("value");
    const read = ({ cache }: typeof first) => cache.getOrLoad("k", row.load, { tags: ["t"] });
    await eventually(async () => assertEquals((await read(first)).source, "memory"));
    for (const key of (await redis.cli("KEYS", "la:*")).split("\n")) {
      await redis.cli("DEL", key);
      await redis.cli("SADD", key, "what does not belong here");
    }
    await using second = openNode(redis.serviceUrl, options);
    await coherent(second);
    for (const node of [first, second]) {
      await eventually(async () => assertEquals((await read(node)).source, "memory"));
      assertEquals(await node.cache.set("k", "value", { tags: ["t"] }), "applied");
      assertEquals(await node.cache.invalidateTags("t"), "applied");
      assertEquals(await node.cache.clear(), "applied");
      assertEquals((await read(node)).value(), "value");
      assertEquals([node.count("breaker"), node.cache.stats().pendingInvalidations], [0, 0]);
    }
  });
});

describe("A replica in place of the primary", () => {
  it("is left for another at once, and then no more than once a second", async () => {
    await using redis = await startRedis();
    await using node = openNode(redis.serviceUrl, { prefix: freshPrefix() });
    await coherent(node);
    const connections = () => node.count("connection", { connected: true });
    const before = connections();
    const startedAtMs = performance.now();
    await redis.cli("REPLICAOF", "127.0.0.1", "1");
    await eventually(async () => {
      await node.cache.delete("k");
      assert(connections() > before, "it is not left");
    });
    const atFirst = node.cache.stats().redisErrors;
    await eventually(async () => {
      assertEquals(await node.cache.delete("k"), "pending");
      assert(node.cache.stats().redisErrors >= atFirst + 20, "not asked again");
    });
    const made = connections() - before;
    const most = 1 + Math.ceil((performance.now() - startedAtMs) / 1_000);
    assert(made <= most, `${made} connections, not ${most}`);
  });
});

function acl(...rules: string[]) {
  return (redis: RedisServer): Promise<string> =>
    redis.cli("ACL", "SETUSER", "lookaside", ...rules);
}

const { OOM: _OOM, READONLY: _READONLY, ...LASTING } = REFUSALS;
const OUTAGES: Readonly<Record<string, Pick<Refusal, "begin" | "end">>> = {
  ...LASTING,
  "NOPERM of what reads a key": { begin: acl("-get"), end: acl("+get") },
  "NOPERM of what reads several keys": { begin: acl("-mget"), end: acl("+mget") },
  "NOPERM of scripts": { begin: acl("-eval", "-evalsha"), end: acl("+eval", "+evalsha") },
  "NOPERM of what invalidates": { begin: acl("-unlink"), end: acl("+unlink") },
  "NOPERM of every key": { begin: acl("resetkeys"), end: acl("~t*", "~la:*") },
  "BUSY": {
    begin: async (redis) => {
      await redis.cli("CONFIG", "SET", "busy-reply-threshold", "1");
      void redis.cli("EVAL", "while true do end", "0").catch(() => undefined);
      await eventually(async () => assertMatch(await redis.cli("GET", "k"), /^BUSY/));
    },
    end: (redis) => redis.cli("SCRIPT", "KILL"),
  },
};

describe("An error that Redis answers for a while, with a source of changes", () => {
  const runs = new Map<string, Promise<void>>();
  // All at once, each with its own Redis, since they mostly wait.
  beforeAll(() => {
    for (const name of Object.keys(OUTAGES)) runs.set(name, replaced(name));
    void Promise.allSettled(runs.values());
  });
  for (const name of Object.keys(OUTAGES)) {
    it(`${name}: memory stands in with what it held, and until it ends`, () => runs.get(name));
  }
});

async function replaced(name: string): Promise<void> {
  const { begin, end } = OUTAGES[name] ?? {};
  assert(begin !== undefined && end !== undefined);
  await using redis = await startRedis();
  await using node = openNode(redis.serviceUrl, { prefix: freshPrefix(), changes: QUIET });
  const { cache } = node;
  await coherent(node);
  const [kept, missed] = [new Row("kept"), new Row("missed")];
  await holdInMemory([node], "kept", kept.load);

  await begin(redis);
  await eventually(async () => {
    await cache.delete("another");
    await cache.getMany(["one", "another"]);
    await cache.getOrLoad("one", new Row("of many").load, { refresh: true });
    assert(cache.stats().fallback, "memory does not stand in");
  });
  await holdInMemory([node], "missed", missed.load);
  const reads = missed.reads;
  for (let n = 0; n < 20; n++) await cache.getOrLoad("missed", missed.load);
  await holdInMemory([node], "kept", kept.load);
  assertEquals([kept.reads, missed.reads], [1, reads]);
  // A server that answers nothing else is not asked.
  assertEquals(node.count("breaker", { state: "open" }) > 0, name === "BUSY");

  await end(redis);
  await eventually(() => {
    const { fallback, pendingInvalidations } = cache.stats();
    assertEquals([fallback, pendingInvalidations], [false, 0]);
  });
  await holdInMemory([node], "missed", missed.load);
}

describe("A Redis in which a command is renamed", () => {
  it("has memory stand in for it", async () => {
    await using redis = await startRedis({ args: ["--rename-command", "GET", "HIDDEN"] });
    await using node = openNode(redis.url, { prefix: freshPrefix(), changes: QUIET });
    await eventually(async () => {
      await node.cache.getOrLoad("one", new Row("a").load);
      assert(node.cache.stats().fallback, "memory does not stand in");
    });
    await holdInMemory([node], "k", new Row("a").load);
  });
});

describe("One server of a cluster that refuses scripts", () => {
  it("has memory stand in for the whole cluster, until it takes them", async () => {
    await using cluster = await startRedisCluster({ replicas: 0 });
    await using node = openNode(cluster.serviceUrl, { prefix: "la", changes: QUIET });
    const { cache } = node;
    await coherent(node);
    // Catching up runs its commands on another one.
    const other = await cluster.ownerOf("la:1:{*}");
    const server = cluster.servers.find((each) => each !== other);
    assert(server !== undefined);
    await acl("-eval", "-evalsha")(server);
    const keys = Array.from({ length: 20 }, (_, n) => `key ${n}`);
    const read = () => Promise.all(keys.map((key) => cache.getOrLoad(key, new Row("a").load)));
    await eventually(async () => {
      await read();
      assert(cache.stats().fallback, "memory does not stand in");
    });
    const tried = cache.stats().redisErrors;
    await eventually(async () => {
      await read();
      assert(cache.stats().redisErrors > tried + 2, "not tried again");
    });
    assertEquals(node.count("fallback"), 1);
    await acl("+eval", "+evalsha")(server);
    await eventually(() => assert(!cache.stats().fallback, "memory still stands in"));
    await eventually(async () => {
      for (const { source } of await read()) assertEquals(source, "memory");
    });
  });
});

describe("One server of a cluster that is dead, before the others know it", () => {
  const deaths: Readonly<Record<string, [begin: "kill" | "pause", end: "start" | "resume"]>> = {
    "killed": ["kill", "start"],
    "hung": ["pause", "resume"],
  };
  for (const [name, [begin, end]] of Object.entries(deaths)) {
    it(`${name}: has memory stand in for the whole cluster, until it is back`, async () => {
      const args = ["--cluster-node-timeout", "60000"];
      await using cluster = await startRedisCluster({ replicas: 0, args });
      await using node = openNode(cluster.serviceUrl, {
        prefix: "la",
        commandTimeoutMs: 250,
        changes: QUIET,
      });
      const { cache } = node;
      await coherent(node);
      const rows = Array.from({ length: 20 }, (_, n) => [`key ${n}`, new Row("old")] as const);
      for (const [key, { load }] of rows) await holdInMemory([node], key, load);
      const dead = await cluster.ownerOf("la:1:{key 0}");
      await dead[begin]();
      await eventually(async () => {
        for (const [key, { load }] of rows) await cache.getOrLoad(key, load);
        const { fallback, breaker } = cache.stats();
        assertEquals({ fallback, breaker }, { fallback: true, breaker: "closed" });
      });
      for (const [key, { load }] of rows) await holdInMemory([node], key, load);
      const reads = () => rows.map((row) => row[1].reads);
      const before = reads();
      const tried = cache.stats().redisErrors;
      await eventually(async () => {
        for (const [key, { load }] of rows) await cache.getOrLoad(key, load);
        assert(cache.stats().redisErrors > tried + 2, "not tried again");
      });
      assertEquals(reads(), before);
      assertEquals(node.count("fallback"), 1);

      for (const [, row] of rows) row.value = "new";
      await cache.delete(...rows.map(([key]) => key));
      for (const [key, { load }] of rows) {
        assertEquals((await cache.getOrLoad(key, load)).value(), "new");
      }
      await dead[end]();
      await eventually(() => {
        const { fallback, pendingInvalidations } = cache.stats();
        assertEquals([fallback, pendingInvalidations], [false, 0]);
      });
      for (const [key, { load }] of rows) {
        assertEquals((await cache.getOrLoad(key, load)).value(), "new");
        await holdInMemory([node], key, load);
      }
    });
  }
});

describe("A Redis that is out of memory", () => {
  it("is read by a process that starts or connects again, for what it holds", async () => {
    await using redis = await startRedis();
    const options: CacheOptions = {
      prefix: freshPrefix(),
      changes: { attach: () => ({ ...NO_CHANGES, source: () => Promise.resolve("shop") }) },
    };
    await using first = openNode(redis.serviceUrl, options);
    await coherent(first);
    const row = new Row("value");
    await holdInMemory([first], "k", row.load);
    await config("maxmemory", "1")(redis);
    await using second = openNode(redis.serviceUrl, options);
    await coherent(second);
    assertEquals((await second.cache.getOrLoad("k", row.load)).source, "redis");
    await redis.cli("CLIENT", "KILL", "USER", "lookaside");
    await eventually(() => assert(first.count("caught-up") > 1, "not caught up again"));
    assertEquals((await first.cache.getOrLoad("k", row.load)).source, "redis");
    assertEquals(row.reads, 1);
  });
});

describe("A database that cannot be selected", () => {
  const impossible: Readonly<Record<string, (redis: RedisServer) => Promise<string>>> = {
    "because there are fewer": (redis) => Promise.resolve(`${redis.url}/99`),
    "because the user may not": async (redis) => {
      await redis.cli("ACL", "SETUSER", "app", "on", ">x", "~*", "&*", "+@all", "-select");
      return redis.url.replace("redis://", "redis://app:x@") + "/3";
    },
  };
  for (const [name, urlOf] of Object.entries(impossible)) {
    it(`is not replaced by another, ${name}`, async () => {
      await using redis = await startRedis();
      await using node = openNode(await urlOf(redis), { prefix: freshPrefix() });
      await eventually(() => assertNotEquals(node.count("redis-error"), 0));
      for (let n = 0; n < 20; n++) {
        assertEquals(await node.cache.set("k", n), "pending");
        assertEquals((await node.cache.getOrLoad("k", () => Promise.resolve(n))).source, "load");
        await delay(20);
      }
      assertEquals(await redis.cli("DBSIZE"), "0");
    });
  }
});
