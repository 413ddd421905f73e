import { assert, assertEquals, assertGreater, assertNotEquals } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { eventually } from "../../tools/servers/eventually.ts";
import { type RedisRing, startRedisRing } from "../../tools/servers/redis_ring.ts";
import type { RedisServer } from "../../tools/servers/redis_server.ts";
import {
  coherent,
  freshPrefix,
  holdInMemory,
  type Node,
  openNode,
} from "../../tests/cache/redis/nodes.ts";
import { assertRight, inUse, startWorkload } from "./_workload.ts";

const KEYS = Array.from({ length: 60 }, (_, at) => `user:${at}`);

describe("Cache on a ring", () => {
  let ring: RedisRing;

  beforeEach(async () => {
    ring = await startRedisRing();
  });
  afterEach(() => ring[Symbol.asyncDispose]());

  it("spreads keys over all servers, each with its tags and its popularity", async () => {
    await using node = await opened();
    for (const key of KEYS) {
      await node.cache.set(key, key, { tags: ["users"] });
      assertEquals((await node.cache.get(key))?.value(), key);
    }
    const shares = await sharesOf(node.prefix);
    assertEquals(shares.size, 3);
    assertEquals([...shares.values()].flat().length, KEYS.length);
    assertEquals(await node.cache.invalidateTags("users"), "applied");
    for (const key of KEYS) assertEquals(await node.cache.get(key), undefined);
  });

  it("loads the keys of a dead server from the source, and moves them nowhere", async () => {
    await using node = await opened();
    for (const key of KEYS) await node.cache.set(key, "old");
    const shares = await sharesOf(node.prefix);
    const [dead, lost] = [...shares][0] ?? [];
    assert(dead !== undefined && lost !== undefined);
    await dead.kill();
    await eventually(() => assertGreater(node.count("connection", { connected: false }), 0));

    const kept = KEYS.filter((key) => !lost.includes(key));
    for (const key of KEYS) {
      const found = await node.cache.getOrLoad(key, () => Promise.resolve("loaded"));
      assertEquals([key, found.value()], [key, lost.includes(key) ? "loaded" : "old"]);
    }
    assertEquals((await sharesOf(node.prefix)).get(dead), undefined);
    assertEquals([...(await sharesOf(node.prefix)).values()].flat().toSorted(), kept.toSorted());
    assertEquals(await node.cache.delete(...kept.slice(0, 5)), "applied");
    assertEquals(await node.cache.delete(...lost.slice(0, 1)), "pending");

    await dead.start();
    await coherent(node);
    for (const key of lost) await node.cache.getOrLoad(key, () => Promise.resolve("again"));
    await eventually(async () => {
      assertEquals((await sharesOf(node.prefix)).get(dead)?.toSorted(), lost.toSorted());
    });
  });

  it("trusts memory for the keys of the servers whose feed is good, and for no others", async () => {
    await using node = await opened();
    await Promise.all(KEYS.map((key) => node.cache.set(key, "old")));
    for (const key of KEYS) await holdInMemory([node], key, () => Promise.resolve("old"));
    const [cut, lost] = [...await sharesOf(node.prefix)][0] ?? [];
    assert(cut !== undefined && lost !== undefined);
    const user = new URL(cut.serviceUrl).username;
    await cut.cli("ACL", "SETUSER", user, "-client|tracking");
    await cut.cli("CLIENT", "KILL", "TYPE", "pubsub");
    await eventually(() => assertGreater(node.count("coherent", { coherent: false }), 0));
    await cut.cli("UNLINK", ...lost.map((key) => `${node.prefix}:1:{${key}}`));
    for (const key of KEYS) {
      const found = await node.cache.getOrLoad(key, () => Promise.resolve("new"));
      if (lost.includes(key)) {
        assertEquals([key, found.value()], [key, "new"]);
        assertNotEquals(found.source, "memory");
      } else {
        assertEquals([key, found.value(), found.source], [key, "old", "memory"]);
      }
    }
    await cut.cli("ACL", "SETUSER", user, "+client|tracking");
    await coherent(node);
    for (const key of KEYS) await holdInMemory([node], key, () => Promise.resolve("?"));
  });

  it("a server that hangs costs its own keys alone", async () => {
    await using node = await opened({ commandTimeoutMs: 100, memoryBytes: 0 });
    for (const key of KEYS) await node.cache.set(key, "old");
    const [hung, lost] = [...await sharesOf(node.prefix)][0] ?? [];
    assert(hung !== undefined && lost !== undefined);
    hung.pause();
    for (const key of KEYS) {
      const { value, source } = await read(node, key);
      if (lost.includes(key)) assertEquals([key, value, source], [key, "new", "load"]);
      else assertEquals([key, value, source], [key, "old", "redis"]);
    }
    hung.resume();
  });

  it("rejects no read and answers nothing old while a server is killed and started again", async () => {
    await using workload = await startWorkload(ring.serviceUrl, KEYS);
    await workload.untilHits(200);
    const [killed] = ring.servers;
    await killed?.kill();
    await workload.untilHits(200);
    await killed?.start();
    await inUse(workload);
    await workload.untilHits(200);
    assertRight(await workload.stop());
  });

  async function opened(
    options: Parameters<typeof openNode>[1] = {},
  ): Promise<Node & { readonly prefix: string }> {
    const prefix = freshPrefix();
    const node = openNode(ring.serviceUrl, { prefix, ...options });
    try {
      await coherent(node);
    } catch (error) {
      await node[Symbol.asyncDispose]();
      throw error;
    }
    return Object.assign(node, { prefix });
  }

  /** The keys on each running server that has any. */
  async function sharesOf(prefix: string): Promise<Map<RedisServer, string[]>> {
    const shares = new Map<RedisServer, string[]>();
    for (const server of ring.servers.filter(({ running }) => running)) {
      const keys = (await server.cli("KEYS", `${prefix}:1:{user:*}`)).split("\n")
        .flatMap((key) => /\{(.*)\}$/.exec(key)?.[1] ?? []);
      if (keys.length > 0) shares.set(server, keys);
    }
    return shares;
  }
});

async function read(node: Node, key: string): Promise<{ value: unknown; source: string }> {
  const found = await node.cache.getOrLoad(key, () => Promise.resolve("new"));
  return { value: found.value(), source: found.source };
}
