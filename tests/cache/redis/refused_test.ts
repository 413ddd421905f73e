import { assertEquals, assertNotEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { CacheOptions } from "../../../cache/mod.ts";
import { setTimeout as delay } from "node:timers/promises";
import { NO_CHANGES } from "../../../cache/changes.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { type RedisServer, startRedis } from "../../../tools/servers/redis_server.ts";
import { coherent, freshPrefix, openNode, Row } from "./nodes.ts";

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
