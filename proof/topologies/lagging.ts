/**
 * Failovers during which one Sentinel is held back: it keeps naming the former primary, which is restarted
 * meanwhile.
 *
 * @module
 */
import { assertEquals, assertNotEquals } from "@std/assert";
import { setTimeout as delay } from "node:timers/promises";
import { eventually } from "../../tools/servers/eventually.ts";
import type { RedisSentinel } from "../../tools/servers/redis_sentinel.ts";
import { coherent, freshPrefix, type Node, openNode } from "../../tests/cache/redis/nodes.ts";

/** Time for which readers are asked after the Sentinel has continued: longer than others need to correct it. */
const READ_MS = 5_000;
/** Without memory, reads come from the server that the instance trusts. */
const OPTIONS = { memoryBytes: 0, commandTimeoutMs: 500 };

/** The results of one failover. */
export interface LaggingRound {
  /** Reads answered from Redis. */
  readonly hits: number;
  /** Answers older than a write that had been applied. */
  readonly stale: readonly string[];
  /**
   * True if the Sentinels failed over once more while instances were reading, as they do on a busy machine. Then
   * a primary that is being replaced may acknowledge a write, which only a replay repairs.
   */
  readonly disturbed: boolean;
}

/**
 * Fails over while the Sentinel at `at` is held back. Two instances, one that asks it first and one that was
 * there before, read what a third writes.
 */
export async function failOverBehind(topology: RedisSentinel, at: number): Promise<LaggingRound> {
  const { sentinels, servers } = topology;
  const lagging = sentinels[at % sentinels.length];
  if (lagging === undefined) throw new Error("Cannot hold a Sentinel back: there is none");
  const others = sentinels.filter((each) => each !== lagging);
  const named = async () => {
    const answers = await Promise.all(
      others.map((each) => each.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "lookaside")),
    );
    return answers.map((answer) => Number(answer.split("\n")[1]));
  };
  const prefix = freshPrefix();
  const asking = (...asked: readonly { readonly port: number }[]) =>
    topology.serviceUrl.replace(
      /@[^/]+\//,
      `@${asked.map(({ port }) => `127.0.0.1:${port}`).join(",")}/`,
    );
  await using writer = openNode(asking(...others, lagging), { prefix, ...OPTIONS });
  await using lasting = openNode(topology.serviceUrl, { prefix, ...OPTIONS });
  await coherent(writer, lasting);
  const before = await topology.primary();
  lagging.pause();
  try {
    // Otherwise the others' messages would wait for it in its sockets.
    for (const each of servers) await each.cli("CLIENT", "KILL", "TYPE", "pubsub");
    await before.kill();
    await eventually(async () => {
      const [first, second] = await named();
      assertEquals(first, second);
      assertNotEquals(first, before.port);
      const next = servers.find(({ port }) => port === first);
      assertEquals((await next?.cli("ROLE"))?.split("\n")[0], "master");
    }, { deadlineMs: 30_000, everyMs: 20 });
    await coherent(writer);
    await before.start();
  } finally {
    lagging.resume();
  }
  await using late = openNode(asking(lagging, ...others), { prefix, ...OPTIONS });
  const [next] = await named();
  const outcome = await readWhileWriting(writer, [late, lasting]);
  const disturbed = (await named()).some((port) => port !== next);
  await topology.settled();
  return { ...outcome, disturbed };
}

async function readWhileWriting(
  writer: Node,
  readers: readonly Node[],
): Promise<Omit<LaggingRound, "disturbed">> {
  const stale: string[] = [];
  let hits = 0;
  const untilMs = performance.now() + READ_MS;
  for (let version = 1; performance.now() < untilMs; version++) {
    const load = () => Promise.resolve(version);
    for (const [at, { cache }] of readers.entries()) {
      const found = await cache.getOrLoad("k", load);
      if (found.source === "redis") hits++;
      const value = found.value() ?? 0;
      if (value < version) stale.push(`${at}: ${value} for ${version} from ${found.source}`);
    }
    // A write that is not applied guarantees nothing to other instances, so it is repeated.
    while (await writer.cache.delete("k") === "pending") await delay(10);
  }
  return { hits, stale };
}
