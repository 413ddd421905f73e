import { assertEquals, assertGreater, assertNotEquals } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { eventually } from "../../tools/servers/eventually.ts";
import { type RedisSentinel, startRedisSentinel } from "../../tools/servers/redis_sentinel.ts";
import {
  coherent,
  freshPrefix,
  holdInMemory,
  openNode,
  Row,
} from "../../tests/cache/redis/nodes.ts";
import { failOverBehind, type LaggingRound } from "./lagging.ts";
import { assertBelievedLate } from "./_takeover.ts";
import { assertRight, inUse, startWorkload } from "./_workload.ts";

/** Time for which instances read after a failover: longer than all of them need to follow. */
const READ_MS = 4_000;

const KEYS = Array.from({ length: 12 }, (_, at) => `user:${at}`);

describe("Cache on Redis Sentinel", () => {
  let topology: RedisSentinel;

  beforeEach(async () => {
    topology = await startRedisSentinel();
  });
  afterEach(() => topology[Symbol.asyncDispose]());

  it("rejects no read and answers nothing old while the primary is killed and replaced", async () => {
    await using workload = await startWorkload(topology.serviceUrl, KEYS);
    await workload.untilHits(200);
    const killed = await topology.primary();
    await killed.kill();
    await topology.primaryAfter(killed);
    await inUse(workload);
    await workload.untilHits(200);
    await killed.start();
    await topology.settled();
    await inUse(workload);
    await workload.untilHits(200);
    assertRight(await workload.stop());
  });

  it("answers nothing old while a replica takes over by order, twice", async () => {
    await using workload = await startWorkload(topology.serviceUrl, KEYS);
    for (let round = 0; round < 2; round++) {
      await workload.untilHits(200);
      await topology.failover();
      await topology.settled();
      await inUse(workload);
    }
    await workload.untilHits(200);
    assertRight(await workload.stop());
  });

  it("answers nothing old while the primary hangs until it is replaced, and when it is back", async () => {
    await using workload = await startWorkload(topology.serviceUrl, KEYS);
    await workload.untilHits(200);
    const hung = await topology.primary();
    hung.pause();
    await topology.primaryAfter(hung);
    await inUse(workload);
    await workload.untilHits(200);
    hung.resume();
    await topology.settled();
    await inUse(workload);
    await workload.untilHits(200);
    assertRight(await workload.stop());
  });

  it("believes a server that has taken over once the changes were applied to it again", async () => {
    await assertBelievedLate({
      serviceUrl: topology.serviceUrl,
      takeOver: async (redisKey) => {
        await topology.settled();
        await eventually(async () => {
          for (const each of topology.servers) {
            assertEquals(await each.cli("EXISTS", redisKey), "1");
          }
        });
        return await topology.failover();
      },
    });
  });

  it("does not follow a Sentinel that lags behind to the primary before, which is back", async () => {
    const rounds: LaggingRound[] = [];
    for (let at = 0; rounds.length < 2; at++) {
      const round = await failOverBehind(topology, at);
      if (!round.disturbed) rounds.push(round);
    }
    assertEquals(rounds.flatMap(({ stale }) => stale), []);
    for (const { hits } of rounds) assertGreater(hits, 0);
  });

  it("calls no write applied that a replaced primary has taken while others read from the next", async () => {
    const options = { prefix: freshPrefix(), memoryBytes: 0, commandTimeoutMs: 500 };
    const [leader] = topology.sentinels;
    const named = async () => await leader?.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "lookaside");
    for (let round = 0; round < 2; round++) {
      await topology.settled();
      await using writer = openNode(topology.serviceUrl, options);
      await coherent(writer);
      const before = await named();
      await eventually(async () => {
        assertEquals(await leader?.cli("SENTINEL", "FAILOVER", "lookaside"), "OK");
      });
      // The first Sentinel that knows the next primary tells a new instance.
      await eventually(async () => assertNotEquals(await named(), before), { everyMs: 1 });
      await using reader = openNode(topology.serviceUrl, options);
      const row = new Row("0");
      let outcome = "";
      const untilMs = performance.now() + READ_MS;
      for (let version = 1; performance.now() < untilMs; version++) {
        const read = await reader.cache.getOrLoad("k", row.load);
        if (outcome === "applied") assertEquals(read.value(), row.value, `from ${read.source}`);
        row.value = `${version}`;
        outcome = await writer.cache.delete("k");
      }
      await coherent(writer, reader);
    }
  });

  it("leaves a primary that the Sentinels have replaced, although it goes on answering", async () => {
    const prefix = freshPrefix();
    await using node = openNode(topology.serviceUrl, { prefix });
    await coherent(node);
    const row = new Row("old");
    await holdInMemory([node], "k", row.load);
    const before = await topology.primary();
    // The primary no longer answers the Sentinels, but still the service: they replace it and cannot tell it.
    await before.cli("ACL", "SETUSER", "default", "-@all");
    await topology.primaryAfter(before);
    await using other = openNode(topology.serviceUrl, { prefix });
    await coherent(other);
    row.value = "new";
    await eventually(async () => assertEquals(await other.cache.delete("k"), "applied"));
    await eventually(async () => {
      assertEquals((await node.cache.getOrLoad("k", row.load)).value(), "new");
    }, { deadlineMs: 3_000 });
  });

  it("goes on without any Sentinel, and with those that are left", async () => {
    await using workload = await startWorkload(topology.serviceUrl, KEYS);
    await workload.untilHits(200);
    const [first, ...others] = topology.sentinels;
    await Promise.all(topology.sentinels.map((sentinel) => sentinel.kill()));
    await workload.untilHits(200);
    await Promise.all(others.map((sentinel) => sentinel.start()));
    assertEquals(first?.running, false);
    const killed = await topology.primary();
    await killed.kill();
    await topology.primaryAfter(killed);
    await inUse(workload);
    await workload.untilHits(200);
    assertRight(await workload.stop());
  });

  it("is told of a change by the server that is the primary by then", async () => {
    const prefix = freshPrefix();
    await using node = openNode(topology.serviceUrl, { prefix });
    await coherent(node);
    const row = new Row("old");
    await holdInMemory([node], "k", row.load);
    const primary = await topology.failover();
    await eventually(() => coherent(node));
    await holdInMemory([node], "k", row.load);
    row.value = "new";
    await eventually(async () => {
      // Until the instance has followed, it may not even have stored the value there.
      await primary.cli("UNLINK", `${prefix}:1:{k}`);
      assertEquals((await node.cache.getOrLoad("k", row.load)).value(), "new");
    }, { deadlineMs: 5_000 });
    await eventually(() => coherent(node));
    await holdInMemory([node], "k", row.load);
    row.value = "newer";
    assertEquals(await primary.cli("UNLINK", `${prefix}:1:{k}`), "1");
    await eventually(async () => {
      assertEquals((await node.cache.getOrLoad("k", row.load)).value(), "newer");
    }, { deadlineMs: 2_000 });
  });
});
