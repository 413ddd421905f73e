import { assert, assertEquals, assertGreater, assertMatch, assertNotEquals } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { ClusterBus } from "../../tools/servers/cluster_bus.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { type RedisCluster, startRedisCluster } from "../../tools/servers/redis_cluster.ts";
import type { RedisServer } from "../../tools/servers/redis_server.ts";
import {
  changesThat,
  coherent,
  freshPrefix,
  holdInMemory,
  type Node,
  openNode,
  Row,
} from "../../tests/cache/redis/nodes.ts";
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

  it("drops what memory holds when the cluster comes to a new epoch, and trusts it again", async () => {
    await using node = openNode(cluster.serviceUrl, { prefix: freshPrefix() });
    await coherent(node);
    const row = new Row("same");
    await holdInMemory([node], "k", row.load);
    const [primary] = await cluster.primaries();
    const distrusted = () => node.count("coherent", { coherent: false });
    const before = distrusted();
    assertMatch(await primary?.cli("CLUSTER", "BUMPEPOCH") ?? "", /^BUMPED/);
    await eventually(() => assertGreater(distrusted(), before));
    assertEquals(node.cache.stats().memory.entries, 0);
    await coherent(node);
    await holdInMemory([node], "k", row.load);
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

/** A cache without `changes` is cleared when a server takes over, since there is no record of missing changes. */
const NOTHING_LOST = changesThat(() => Promise.resolve());

describe("Cache on a Redis Cluster whose primary is cut off from all others and from no client", () => {
  const memoryLeaseMs = 1_000;
  let cluster: RedisCluster;

  beforeEach(async () => {
    cluster = await startRedisCluster({ bus: new ClusterBus() });
  });
  afterEach(() => cluster[Symbol.asyncDispose]());

  it("trusts memory no longer than the memory lease after a write to the one that took its place", async () => {
    const prefix = freshPrefix();
    await using node = openNode(cluster.serviceUrl, {
      prefix,
      memoryLeaseMs,
      changes: NOTHING_LOST,
    });
    await coherent(node);
    const row = new Row("old");
    await holdInMemory([node], "k", row.load);
    const owner = await cluster.ownerOf(`${prefix}:1:{k}`);
    const others = cluster.servers.filter((server) => server !== owner);
    await deceive({ owner, others });
    await replace(owner, prefix);
    const writtenMs = await writeBehind(row, { others, prefix });
    assertEquals(await heldMs(node, row, { writtenMs, untilMs: 3 * memoryLeaseMs }), 0);
    // It trusted the answers there: nothing else kept it from answering.
    assertEquals((await node.cache.get("k"))?.value(), "old");

    await undeceive(others);
    await cluster.heal();
    await coherent(node);
    await holdInMemory([node], "k", row.load);
    assertEquals((await node.cache.getOrLoad("k", row.load)).value(), "new");
  });

  it("trusts no memory when it names the epoch of the others by chance", async () => {
    const prefix = freshPrefix();
    const owner = await cluster.ownerOf(`${prefix}:1:{k}`);
    const others = cluster.servers.filter((server) => server !== owner);
    const neighbour = (await cluster.primaries()).find((server) => server !== owner);
    // After this, a server that makes an epoch of its own makes a new one.
    assertMatch(await neighbour?.cli("CLUSTER", "BUMPEPOCH") ?? "", /^BUMPED/);
    await sameEpoch(cluster.servers);
    await using node = openNode(cluster.serviceUrl, {
      prefix,
      memoryLeaseMs,
      changes: NOTHING_LOST,
    });
    await coherent(node);
    const row = new Row("old");
    await holdInMemory([node], "k", row.load);
    await deceive({ owner, others });
    const [replica] = await cluster.replicasOf(owner);
    await cluster.cutOff(owner);
    // Each makes one by itself.
    assertEquals(await replica?.cli("CLUSTER", "FAILOVER", "TAKEOVER"), "OK");
    assertMatch(await owner.cli("CLUSTER", "BUMPEPOCH"), /^BUMPED/);
    await sameEpoch(cluster.servers);
    const writtenMs = await writeBehind(row, { others, prefix });
    assertEquals(await heldMs(node, row, { writtenMs, untilMs: 3 * memoryLeaseMs }), 0);
  });

  /** The former owner of a key no longer gets messages from the others, and notices nothing. */
  async function replace(owner: RedisServer, prefix: string): Promise<void> {
    const slot = await cluster.slotOf(`${prefix}:1:{k}`);
    await cluster.cutOff(owner);
    await cluster.successorOf(owner, slot);
    assertMatch(await owner.cli("CLUSTER", "INFO"), /cluster_state:ok/);
  }

  /** Writes through an instance that knows only the others. Answers the time of the acknowledgement. */
  async function writeBehind(
    row: Row,
    { others, prefix }: { readonly others: readonly RedisServer[]; readonly prefix: string },
  ): Promise<number> {
    const seeds = others.map(({ port }) => `127.0.0.1:${port}`).join(",");
    await using other = openNode(`redis-cluster://${seeds}`, { prefix, changes: NOTHING_LOST });
    await coherent(other);
    row.value = "new";
    assertEquals(await other.cache.delete("k"), "applied");
    return performance.now();
  }
});

/**
 * Makes a client depend on one server for its view of the cluster: the others accept no new connection from it,
 * and it opens one for each question about slots. That server is slow to miss the others.
 */
async function deceive(
  { owner, others }: { readonly owner: RedisServer; readonly others: readonly RedisServer[] },
): Promise<void> {
  await owner.cli("CONFIG", "SET", "cluster-node-timeout", "60000");
  await Promise.all(others.map((server) => server.cli("ACL", "SETUSER", userOf(server), "off")));
}

async function undeceive(others: readonly RedisServer[]): Promise<void> {
  await Promise.all(others.map((server) => server.cli("ACL", "SETUSER", userOf(server), "on")));
}

function userOf({ serviceUrl }: RedisServer): string {
  return new URL(serviceUrl).username;
}

/** The time after a write for which a node's memory still answered the old value. */
async function heldMs(
  node: Node,
  row: Row,
  { writtenMs, untilMs }: { readonly writtenMs: number; readonly untilMs: number },
): Promise<number> {
  let heldMs = 0;
  await eventually(async () => {
    const ageMs = performance.now() - writtenMs;
    const found = await node.cache.getOrLoad("k", row.load);
    if (found.source === "memory" && found.value() !== row.value) heldMs = ageMs;
    assertGreater(ageMs, untilMs);
  });
  return heldMs;
}

/** Waits until all servers name the same epoch. */
async function sameEpoch(servers: readonly RedisServer[]): Promise<void> {
  await eventually(async () => {
    const infos = await Promise.all(servers.map((server) => server.cli("CLUSTER", "INFO")));
    const epochs = infos.map((info) => /current_epoch:(\d+)/.exec(info)?.[1]);
    assertEquals(new Set(epochs).size, 1, epochs.join());
  });
}

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
