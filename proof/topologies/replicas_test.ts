import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { CacheOptions } from "../../cache/mod.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { freePort } from "../../tools/servers/free_port.ts";
import { startRedis } from "../../tools/servers/redis_server.ts";
import { startTcpProxy } from "../../tools/servers/tcp_proxy.ts";
import { changesThat, openNode } from "../../tests/cache/redis/nodes.ts";

describe("Cache behind an address that is given to another server", () => {
  const cases: Readonly<Record<string, CacheOptions>> = {
    "with a change feed to catch up with": {
      changes: changesThat(() => Promise.resolve()),
    },
    "without one": {},
  };
  for (const [name, options] of Object.entries(cases)) {
    it(`leaves a primary that was demoted under it, ${name}`, async () => {
      await using first = await startRedis();
      await using second = await startRedis({
        args: ["--replicaof", "127.0.0.1", String(first.port)],
      });
      await using proxy = startTcpProxy(first.port);
      await eventually(async () => {
        assertEquals((await second.cli("ROLE")).split("\n")[3], "connected");
      });
      await using node = openNode(`redis://127.0.0.1:${proxy.port}`, options);
      const { cache } = node;
      await eventually(async () => {
        // A value that was set before the connection has a pending delete, which may come after the next set.
        assertEquals(await cache.set("key", "old"), "applied");
        assertEquals(await second.cli("EXISTS", "la:1:{key}"), "1");
      });

      await second.cli("REPLICAOF", "NO", "ONE");
      await first.cli("REPLICAOF", "127.0.0.1", String(freePort())); // it gets no more data
      proxy.redirectNew(second.port);
      assertEquals(await cache.delete("key"), "pending");
      const read = await cache.getOrLoad("key", () => Promise.resolve("new"));
      assertEquals(read.value(), "new");
      await eventually(() => assertEquals(cache.stats().pendingInvalidations, 0));
      assertEquals(await second.cli("EXISTS", "la:1:{key}"), "0");

      // Changes by others there are announced here.
      await eventually(async () => {
        const again = await cache.getOrLoad("key", () => Promise.resolve("new"));
        assertEquals(again.source, "memory");
      });
      await second.cli("UNLINK", "la:1:{key}");
      await eventually(async () => {
        const newer = await cache.getOrLoad("key", () => Promise.resolve("newer"));
        assertEquals(newer.value(), "newer");
      });
    });
  }

  it("does not read the data of another server that a primary copies under it", async () => {
    await using first = await startRedis();
    await using second = await startRedis({ args: ["--repl-diskless-sync-delay", "0"] });
    await using node = openNode(first.url, { changes: changesThat(() => Promise.resolve()) });
    const { cache } = node;
    await eventually(async () => {
      assertEquals(await cache.set("key", "old"), "applied");
    });
    await second.cli("REPLICAOF", "127.0.0.1", String(first.port));
    await eventually(async () => assertEquals(await second.cli("EXISTS", "la:1:{key}"), "1"));
    await second.cli("REPLICAOF", "NO", "ONE");
    assertEquals(await cache.delete("key"), "applied");

    await first.cli("REPLICAOF", "127.0.0.1", String(second.port));
    await eventually(async () => assertEquals(await first.cli("EXISTS", "la:1:{key}"), "1"), {
      everyMs: 5,
    });
    const read = await cache.getOrLoad("key", () => Promise.resolve("new"));
    assertEquals(read.value(), "new");
  });
});
