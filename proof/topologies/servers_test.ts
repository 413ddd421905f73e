import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { parseTopology } from "../../cache/mod.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { startRedisCluster } from "../../tools/servers/redis_cluster.ts";
import { startRedisRing } from "../../tools/servers/redis_ring.ts";
import { startRedisSentinel } from "../../tools/servers/redis_sentinel.ts";

describe("startRedisSentinel()", () => {
  it("gives another primary on request, and when the primary is killed or paused", async () => {
    await using topology = await startRedisSentinel();
    assertEquals(parseTopology(topology.url).kind, "sentinel");
    const first = await topology.primary();
    assertEquals(first, topology.servers[0]);
    const second = await topology.failover();
    assertNotEquals(second, first);
    await topology.settled();
    assertEquals(await second.cli("SET", "a", "1"), "OK");
    await eventually(async () => {
      for (const server of topology.servers) assertEquals(await server.cli("GET", "a"), "1");
    });

    await second.kill();
    const third = await topology.primaryAfter(second);
    assertEquals(await third.cli("GET", "a"), "1");
    await second.start();
    await topology.settled();
    // A server that came back soon enough may still be the primary for one of the Sentinels.
    const last = await topology.primary();
    last.pause();
    await topology.primaryAfter(last);
    last.resume();
    await topology.settled();
  });

  it("has no primary to name when the Sentinels are gone", async () => {
    await using topology = await startRedisSentinel();
    await Promise.all(topology.sentinels.map((sentinel) => sentinel.kill()));
    await assertRejects(() => topology.primary(), Error, "Cannot name the primary");
  });
});

describe("startRedisCluster()", () => {
  it("has three primaries with a replica each, and fails over by itself and on request", async () => {
    await using cluster = await startRedisCluster();
    assertEquals(parseTopology(cluster.url).kind, "cluster");
    const primaries = await cluster.primaries();
    assertEquals([primaries.length, cluster.servers.length], [3, 6]);
    const slot = await cluster.slotOf("{user:1}");
    const owner = await cluster.ownerOf("x{user:1}y");
    assert(primaries.includes(owner));
    assertEquals(await owner.cli("SET", "{user:1}", "1"), "OK");
    const [replica] = await cluster.replicasOf(owner);
    assert(replica !== undefined);
    await eventually(async () => assertEquals(await replica.cli("KEYS", "*"), "{user:1}"));

    await owner.kill();
    assertEquals(await cluster.successorOf(owner, slot), replica);
    assertEquals(await replica.cli("GET", "{user:1}"), "1");
    await owner.start();
    await cluster.settled();

    assertEquals(await cluster.replicasOf(replica), [owner]);
    await cluster.failover(owner);
    assertEquals(await cluster.ownerOfSlot(slot), owner);
    assertEquals(await owner.cli("GET", "{user:1}"), "1");
  });

  it("moves a slot with its keys, and takes servers in and out", async () => {
    await using cluster = await startRedisCluster({ replicas: 0 });
    const key = "{user:1}";
    const slot = await cluster.slotOf(key);
    const owner = await cluster.ownerOf(key);
    const elsewhere = "{user:2}";
    for (const each of [key, elsewhere]) {
      await (await cluster.ownerOf(each)).cli("SET", each, "1");
    }
    const target = (await cluster.primaries()).find((server) => server !== owner);
    assert(target !== undefined);
    let between = "";
    await cluster.migrateSlot(slot, target, async () => {
      between = await owner.cli("GET", key);
    });
    assert(between.startsWith(`ASK ${slot} `), between);
    assertEquals(await cluster.ownerOf(key), target);
    assertEquals(await target.cli("GET", key), "1");
    assert((await owner.cli("GET", key)).startsWith(`MOVED ${slot} `));

    const added = await cluster.addPrimary(100);
    assertEquals((await cluster.primaries()).length, 4);
    assertNotEquals(await cluster.ownerOf(elsewhere), added);
    await cluster.migrateSlot(await cluster.slotOf(elsewhere), added);
    await cluster.remove(added);
    assertEquals(added.running, false);
    assertEquals((await cluster.primaries()).length, 3);
    for (const each of [key, elsewhere]) {
      assertEquals(await (await cluster.ownerOf(each)).cli("GET", each), "1");
    }
  });
});

describe("startRedisRing()", () => {
  it("gives servers of which each has its own keys, and takes some in and out", async () => {
    await using ring = await startRedisRing();
    const topology = parseTopology(ring.url);
    assert(topology.kind === "ring");
    assertEquals(topology.servers.map(({ port }) => port), ring.servers.map(({ port }) => port));
    const [, second] = ring.servers;
    await second?.cli("SET", "a", "1");
    assertEquals(await ring.holderOf("a"), second);
    const added = await ring.add();
    assert(ring.url.endsWith(`:${added.port}`));
    await ring.remove(added);
    assertEquals([added.running, ring.servers.length], [false, 3]);
    await second?.kill();
    await assertRejects(() => ring.holderOf("a"), Error, "there is none");
    await second?.restart();
    await eventually(async () => assertEquals(await second?.cli("EXISTS", "a"), "0"));
  });
});
