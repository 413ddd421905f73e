import { assert, assertEquals, assertGreater, assertNotEquals } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { eventually } from "../../support/eventually.ts";
import { type RedisCluster, startRedisCluster } from "../../support/redis_cluster.ts";
import type { RedisServer } from "../../support/redis_server.ts";
import { coherent, freshPrefix, holdInMemory, openNode, Row } from "./_nodes.ts";
import { assertBelievedLate } from "./_takeover.ts";
import { assertRight, inUse, startWorkload } from "./_workload.ts";

const KEYS = Array.from({ length: 24 }, (_, at) => `user:${at}`);

describe("Cache on a Redis Cluster", () => {
  let cluster: RedisCluster;

  beforeEach(async () => {
    cluster = await startRedisCluster();
  });
  afterEach(() => cluster[Symbol.asyncDispose]());

  it("rejects no read and answers nothing old while a primary is killed and replaced", async () => {
    await using workload = await startWorkload(cluster.serviceUrl, KEYS);
    await workload.untilHits(200);
    const slot = await cluster.slotOf("{user:1}");
    const killed = await cluster.ownerOfSlot(slot);
    await killed.kill();
    await cluster.successorOf(killed, slot);
    await inUse(workload);
    await workload.untilHits(200);
    await killed.start();
    await cluster.settled();
    await inUse(workload);
    await workload.untilHits(200);
    assertRight(await workload.stop());
  });

  it("answers nothing old while a replica takes over by order", async () => {
    await using workload = await startWorkload(cluster.serviceUrl, KEYS);
    await workload.untilHits(200);
    const [replica] = await cluster.replicasOf(await cluster.ownerOf("{user:1}"));
    assert(replica !== undefined);
    await cluster.failover(replica);
    await inUse(workload);
    await workload.untilHits(200);
    assertRight(await workload.stop());
  });

  it("answers nothing old while a primary hangs until it is replaced, and when it is back", async () => {
    await using workload = await startWorkload(cluster.serviceUrl, KEYS);
    await workload.untilHits(200);
    const slot = await cluster.slotOf("{user:1}");
    const hung = await cluster.ownerOfSlot(slot);
    hung.pause();
    await eventually(async () => {
      const others = cluster.servers.filter((server) => server !== hung);
      const owners = await Promise.all(others.map((server) => ownerPort(server, slot)));
      for (const owner of owners) assertNotEquals(owner, hung.port);
    }, { deadlineMs: 30_000 });
    await inUse(workload);
    await workload.untilHits(200);
    hung.resume();
    await cluster.settled();
    await inUse(workload);
    await workload.untilHits(200);
    assertRight(await workload.stop());
  });

  it("believes a server that has taken over once the changes were applied to it again", async () => {
    await assertBelievedLate({
      serviceUrl: cluster.serviceUrl,
      takeOver: async (redisKey) => {
        const owner = await cluster.ownerOf(redisKey);
        const [replica] = await cluster.replicasOf(owner);
        await eventually(async () => assertEquals(await replica?.cli("KEYS", redisKey), redisKey));
        await owner.kill();
        return await cluster.successorOf(owner, await cluster.slotOf(redisKey));
      },
    });
  });

  it("answers nothing old while slots are migrated under load", async () => {
    await using workload = await startWorkload(cluster.serviceUrl, KEYS);
    for (const key of KEYS.slice(0, 6)) {
      const slot = await cluster.slotOf(`{${key}}`);
      const owner = await cluster.ownerOfSlot(slot);
      const target = (await cluster.primaries()).find((server) => server !== owner);
      assert(target !== undefined);
      await cluster.migrateSlot(slot, target, () => workload.untilHits(50));
      await inUse(workload);
      await workload.untilHits(50);
    }
    assertRight(await workload.stop());
  });

  it("uses a primary that is added, and does without it when it leaves again", async () => {
    await using workload = await startWorkload(cluster.serviceUrl, KEYS);
    await workload.untilHits(200);
    const added = await cluster.addPrimary(60);
    for (const key of KEYS.slice(0, 4)) {
      const slot = await cluster.slotOf(`{${key}}`);
      if (await cluster.ownerOfSlot(slot) !== added) await cluster.migrateSlot(slot, added);
    }
    await inUse(workload);
    await eventually(async () => assertGreater(Number(await added.cli("DBSIZE")), 0));
    await workload.untilHits(200);
    await cluster.remove(added);
    await inUse(workload);
    await workload.untilHits(200);
    assertRight(await workload.stop());
  });

  it("is told of a change by whichever server owns the key by then", async () => {
    const prefix = freshPrefix();
    await using node = openNode(cluster.serviceUrl, { prefix });
    await coherent(node);
    const row = new Row("old");
    await holdInMemory([node], "k", row.load);
    const redisKey = `${prefix}:1:{k}`;
    const owner = await cluster.ownerOf(redisKey);
    const slot = await cluster.slotOf(redisKey);
    const target = (await cluster.primaries()).find((server) => server !== owner);
    assert(target !== undefined);
    await cluster.migrateSlot(slot, target);
    await coherent(node);
    await holdInMemory([node], "k", row.load);
    row.value = "new";
    assertEquals(await target.cli("UNLINK", redisKey), "1");
    await eventually(async () => {
      assertEquals((await node.cache.getOrLoad("k", row.load)).value(), "new");
    }, { deadlineMs: 2_000 });
  });

  it("answers nothing from memory while the feed of the server that owns the key is cut", async () => {
    const prefix = freshPrefix();
    await using node = openNode(cluster.serviceUrl, { prefix });
    await coherent(node);
    const row = new Row("old");
    await holdInMemory([node], "k", row.load);
    const redisKey = `${prefix}:1:{k}`;
    const owner = await cluster.ownerOf(redisKey);
    const user = new URL(owner.serviceUrl).username;
    await owner.cli("ACL", "SETUSER", user, "-client|tracking");
    await owner.cli("CLIENT", "KILL", "TYPE", "pubsub");
    await eventually(() => assertGreater(node.count("coherent", { coherent: false }), 0));
    row.value = "new";
    await owner.cli("UNLINK", redisKey);
    for (let round = 0; round < 20; round++) {
      const found = await node.cache.getOrLoad("k", row.load);
      assertEquals(found.value(), "new");
      assertNotEquals(found.source, "memory");
    }
    await owner.cli("ACL", "SETUSER", user, "+client|tracking");
    await coherent(node);
    await holdInMemory([node], "k", row.load);
  });

  it("trusts memory no longer than the memory lease when the owner of the key hangs", async () => {
    const prefix = freshPrefix();
    const memoryLeaseMs = 500;
    await using node = openNode(cluster.serviceUrl, {
      prefix,
      memoryLeaseMs,
      commandTimeoutMs: 100,
    });
    await coherent(node);
    const row = new Row("old");
    await holdInMemory([node], "k", row.load);
    const owner = await cluster.ownerOf(`${prefix}:1:{k}`);
    owner.pause();
    const pausedAtMs = performance.now();
    row.value = "new";
    let heldMs = 0;
    await eventually(async () => {
      const found = await node.cache.getOrLoad("k", row.load);
      if (found.source === "memory") heldMs = performance.now() - pausedAtMs;
      assertEquals(found.value(), "new");
    });
    assert(heldMs <= memoryLeaseMs + 200, `memory answered for ${heldMs} ms`);
    owner.resume();
  });
});

/** The port of a slot's owner as one server sees it. */
async function ownerPort(server: RedisServer, slot: number): Promise<number> {
  const lines = (await server.cli("CLUSTER", "NODES")).split("\n");
  const owner = lines.find((line) => {
    const [, , flags = "", , , , , , ...ranges] = line.split(" ");
    return flags.includes("master") && !flags.includes("fail") && ranges.some((range) => {
      const [first = "", last = first] = range.split("-");
      return slot >= Number(first) && slot <= Number(last);
    });
  });
  return Number(/:(\d+)@/.exec(owner ?? "")?.[1] ?? 0);
}
