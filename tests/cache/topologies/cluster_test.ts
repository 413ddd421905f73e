import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cluster } from "ioredis";
import { parseTopology, systemRuntime } from "../../../cache/mod.ts";
import { backendsOf } from "../../../cache/topologies/open.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { startRedisCluster } from "../../../tools/servers/redis_cluster.ts";
import { startRedis } from "../../../tools/servers/redis_server.ts";
import { coherent, openNode, Row } from "../redis/nodes.ts";
import { later } from "../../support/later.ts";

const nothing = () => undefined;

describe("a connection to a Cluster", () => {
  it("asks who owns which slots no more once it is closed, also while it does", async () => {
    const args = ["--cluster-enabled", "yes", "--cluster-announce-ip", "127.0.0.1"];
    await using server = await startRedis({ args });
    await server.cli("CLUSTER", "ADDSLOTSRANGE", "0", "16383");
    const { promise: connected, resolve } = Promise.withResolvers<void>();
    const [backend] = backendsOf(parseTopology(`redis-cluster://127.0.0.1:${server.port}`));
    const connection = backend?.connect({
      commandTimeoutMs: 2_000,
      boundsCommands: false,
      clock: systemRuntime.clock,
      onConnection: () => resolve(),
      onError: nothing,
      onChange: nothing,
      onConfirmed: nothing,
      onRefused: nothing,
    });
    const client = connection?.client;
    assert(client instanceof Cluster);
    await connected;
    server.pause();
    await eventually(() => assert(client["isRefreshing"]));
    await connection?.close();
    await eventually(() => assertEquals(client["isRefreshing"], false));
    assertEquals(client["slotsTimer"], null);
  });
});

describe("A slot of a Cluster that is left half moved", () => {
  it("takes invalidations, opens no breaker, and stores nothing that was loaded before one", async () => {
    await using cluster = await startRedisCluster({ replicas: 0 });
    // A load runs while programs are started and ended, which takes its time on a busy machine.
    const options = { prefix: "la", memoryBytes: 0, leaseMs: 60_000 };
    await using node = openNode(cluster.serviceUrl, options);
    await coherent(node);
    const { cache } = node;
    const [stored, loading, elsewhere] = ["stored", "loading", "elsewhere"] as const;
    assertEquals(await cache.set(stored, "old"), "applied");
    assertEquals(await cache.set(elsewhere, "kept"), "applied");
    const row = new Row("old");
    const release = row.hold();
    const loads = later(cache.getOrLoad(loading, row.load));
    await row.wasRead();

    const owner = await cluster.ownerOf(`la:1:{${stored}}`);
    await owner.cli("SET", `la:1:lease:{${stored}}`, "another's");
    await owner.cli("CONFIG", "SET", "slowlog-log-slower-than", "0");
    for (const key of [stored, loading]) {
      const slot = await cluster.slotOf(`la:1:{${key}}`);
      const source = await cluster.ownerOfSlot(slot);
      const target = (await cluster.primaries()).find((each) => each !== source);
      assert(target !== undefined);
      const ids = [await source.cli("CLUSTER", "MYID"), await target.cli("CLUSTER", "MYID")];
      await target.cli("CLUSTER", "SETSLOT", `${slot}`, "IMPORTING", ids[0] ?? "");
      await source.cli("CLUSTER", "SETSLOT", `${slot}`, "MIGRATING", ids[1] ?? "");
    }
    assertEquals(await cache.delete(stored, loading), "applied");
    assertEquals(await cache.set(stored, "cannot be stored"), "applied");
    // Latest first: the lease was removed before the value.
    const log = await owner.cli("SLOWLOG", "GET", "-1");
    assertMatch(log, /^unlink\nla:1:\{stored\}\n127[^]*^unlink\nla:1:lease:\{stored\}\n127/m);
    release();
    await loads;
    row.value = "new";
    for (const key of [stored, loading]) {
      assertEquals((await cache.getOrLoad(key, row.load)).value(), "new");
    }
    assertEquals((await cache.getOrLoad(elsewhere, row.load)).source, "redis");
    assertEquals(node.count("breaker"), 0);
  });
});
