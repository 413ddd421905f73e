/**
 * Tests when an instance trusts a server that has taken over.
 *
 * @module
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { eventually } from "../../tools/servers/eventually.ts";
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

/** Servers of which one can take over from another. */
export interface Takeover {
  /** The URL for the instance. */
  readonly serviceUrl: string;
  /** Makes another server take over from the owner of a key, with its copy, and answers it. */
  takeOver(redisKey: string): Promise<RedisServer>;
}

/**
 * Asserts that an instance reads nothing from a server that has taken over until it has replayed the recent
 * changes: the server may lack deletes that its predecessor had acknowledged.
 */
export async function assertBelievedLate({ serviceUrl, takeOver }: Takeover): Promise<void> {
  const prefix = freshPrefix();
  const redisKey = `${prefix}:1:{k}`;
  let applied: Promise<void> = Promise.resolve();
  let asked = 0;
  await using node: Node = openNode(serviceUrl, {
    prefix,
    changes: changesThat(async (server) => {
      asked++;
      await applied;
      assertEquals(await server.delete("k"), "applied");
    }),
  });
  await eventually(() => assertGreater(node.count("caught-up"), 0));
  await coherent(node);
  const row = new Row("old");
  await holdInMemory([node], "k", row.load);

  const { promise, resolve } = Promise.withResolvers<void>();
  applied = promise;
  const askedBefore = asked;
  try {
    const successor = await takeOver(redisKey);
    await eventually(() => assertGreater(asked, askedBefore));
    row.value = "new"; // The predecessor had acknowledged its delete.
    for (let round = 0; round < 50; round++) {
      assertEquals((await node.cache.getOrLoad("k", row.load)).value(), "new");
    }
    assertEquals(await successor.cli("EXISTS", redisKey), "1", "there was nothing old to be read");
  } finally {
    resolve();
  }
  await coherent(node);
  await holdInMemory([node], "k", row.load);
  assert((await node.cache.getOrLoad("k", row.load)).value() === "new");
}
