import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cluster } from "ioredis";
import { parseTopology, systemRuntime } from "../../../cache/mod.ts";
import { backendsOf } from "../../../cache/topologies/open.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { startRedis } from "../../../tools/servers/redis_server.ts";

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
