/**
 * An address that leads to another server while the first one goes on, as a DNS name or a proxy can.
 */
import { assertEquals, assertGreater, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type Runtime, systemRuntime } from "../../../cache/mod.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { startRedis } from "../../../tools/servers/redis_server.ts";
import { startTcpProxy } from "../../../tools/servers/tcp_proxy.ts";
import { changesThat, coherent, freshPrefix, holdInMemory, openNode, Row } from "../redis/nodes.ts";

/** The interval at which it is asked where the address leads, and the one that this test has instead. */
const ASK_MS = 10_000;
const SOON_MS = 100;

/** The system's time, in which the question is asked soon. */
const hurried: Runtime = {
  ...systemRuntime,
  clock: {
    ...systemRuntime.clock,
    after: (delayMs, run) => systemRuntime.clock.after(delayMs === ASK_MS ? SOON_MS : delayMs, run),
  },
};

describe("An address that leads to another server", () => {
  it("is followed there also by those who are connected to the first, which goes on", async () => {
    await using first = await startRedis();
    await using second = await startRedis();
    await using proxy = startTcpProxy(first.port);
    const prefix = freshPrefix();
    const url = `redis://127.0.0.1:${proxy.port}`;
    const replays: boolean[] = [];
    const changes = changesThat((_server, replay) => {
      replays.push(replay);
      return Promise.resolve();
    });
    await using stayed = openNode(url, { prefix, changes, runtime: hurried });
    await coherent(stayed);
    const row = new Row("old");
    await holdInMemory([stayed], "k", row.load);
    const before = replays.length;

    proxy.redirectNew(second.port);
    await using moved = openNode(url, { prefix });
    await coherent(moved);
    row.value = "new";
    assertEquals(await moved.cache.delete("k"), "applied");
    await eventually(async () => {
      assertEquals((await stayed.cache.getOrLoad("k", row.load)).value(), "new");
    });
    // What the second server has missed is applied to it before it is read.
    await eventually(() => assertEquals(replays.slice(before), [true]));
    await holdInMemory([stayed, moved], "k", row.load);
    row.value = "newer";
    assertEquals(await moved.cache.delete("k"), "applied");
    await eventually(async () => {
      assertEquals((await stayed.cache.getOrLoad("k", row.load)).value(), "newer");
    });
  });

  it("is a replica: it is not read, without a source of changes either", async () => {
    await using primary = await startRedis({ args: ["--repl-diskless-sync-delay", "0"] });
    await using link = startTcpProxy(primary.port);
    await using replica = await startRedis({ args: ["--replicaof", "127.0.0.1", `${link.port}`] });
    await eventually(async () => assertMatch(await replica.cli("ROLE"), /connected/));
    const prefix = freshPrefix();
    await using writer = openNode(primary.serviceUrl, { prefix });
    await coherent(writer);
    const row = new Row("old");
    await holdInMemory([writer], "k", row.load);
    await eventually(async () => assertEquals(await replica.cli("EXISTS", `${prefix}:1:{k}`), "1"));
    link.hang();
    row.value = "new";
    assertEquals(await writer.cache.delete("k"), "applied");
    assertEquals(await replica.cli("EXISTS", `${prefix}:1:{k}`), "1");

    await using reader = openNode(replica.serviceUrl, { prefix });
    await eventually(() => assertGreater(reader.cache.stats().redisErrors, 1));
    assertEquals((await reader.cache.getOrLoad("k", row.load)).value(), "new");
  });

  it("has become a replica: what memory holds from before is dropped", async () => {
    await using server = await startRedis();
    const prefix = freshPrefix();
    // One read in 64 is counted, and what counts it would notice a replica.
    await using node = openNode(server.url, {
      prefix,
      runtime: { ...hurried, random: () => 0.99 },
    });
    await coherent(node);
    const row = new Row("old");
    await holdInMemory([node], "k", row.load);
    await eventually(async () => {
      assertEquals(await server.cli("EXISTS", `${prefix}:1:{*}:popular`), "1");
    });
    await server.cli("REPLICAOF", "127.0.0.1", "1"); // its new primary cannot be reached
    row.value = "new"; // whoever changes it knows the new primary
    await eventually(() => assertGreater(node.count("coherent", { coherent: false }), 0));
    assertEquals((await node.cache.getOrLoad("k", row.load)).value(), "new");
    await server.cli("REPLICAOF", "NO", "ONE");
    await holdInMemory([node], "k", row.load);
  });

  it("is not taken for another while the same server answers", async () => {
    await using server = await startRedis();
    let opened = 0;
    await using proxy = startTcpProxy(server.port, {
      observe: () => {
        opened++;
        return { sent: () => undefined, received: () => undefined, closed: () => undefined };
      },
    });
    const url = `redis://127.0.0.1:${proxy.port}`;
    await using node = openNode(url, { prefix: freshPrefix(), runtime: hurried });
    await coherent(node);
    // Its own two, and as many questions.
    await eventually(() => assertGreater(opened, 4));
    assertEquals([node.count("connection"), node.count("redis-error")], [1, 0]);
  });

  it("says that it refuses new connections, while the present ones last", async () => {
    await using server = await startRedis();
    await using node = openNode(server.serviceUrl, { prefix: freshPrefix(), runtime: hurried });
    await coherent(node);
    await server.cli("ACL", "SETUSER", "lookaside", "resetpass", ">another");
    await eventually(() => {
      const told = node.events.flatMap((event) => event.type === "redis-error" ? [event] : []);
      assertMatch(
        told.map(({ command, error }) => `${command}: ${error}`).join(),
        /connect: .*WRONGPASS/,
      );
    });
    const { reachable, breaker, coherent: isCoherent } = node.cache.stats();
    assertEquals([reachable, breaker, isCoherent], [true, "closed", true]);
  });
});
