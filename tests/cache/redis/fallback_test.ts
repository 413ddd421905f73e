import { assert, assertEquals } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { NO_CHANGES } from "../../../cache/changes.ts";
import type { ChangeListener, FollowOptions } from "../../../cache/mod.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { type RedisServer, startRedis } from "../../../tools/servers/redis_server.ts";
import { coherent, freshPrefix, holdInMemory, type Node, openNode, Row } from "./nodes.ts";
import { later } from "../../support/later.ts";

/** Whoever is told what changes, while the servers are away. */
interface Follow extends ChangeListener {
  readonly options: FollowOptions;
  disposed: boolean;
}

const TAGS = { tags: ["orders:*"] };

describe("Fallback", () => {
  let redis: RedisServer;
  let node: Node;
  let follows: Follow[];

  beforeEach(async () => {
    redis = await startRedis();
    follows = [];
    node = openNode(redis.url, {
      prefix: freshPrefix(),
      commandTimeoutMs: 200,
      changes: {
        attach: () => ({
          ...NO_CHANGES,
          follower: {
            covers: (tags) => tags.length > 0 && tags.every((tag) => tag.startsWith("orders:")),
            follow: (_server, listener, options) => {
              const follow: Follow = { ...listener, options, disposed: false };
              follows.push(follow);
              return {
                [Symbol.asyncDispose]() {
                  follow.disposed = true;
                  return Promise.resolve();
                },
              };
            },
          },
        }),
      },
    });
    await coherent(node);
  });
  afterEach(async () => {
    await node.cache.close();
    await redis[Symbol.asyncDispose]();
  });

  const read = (key: string, row: Row, options = TAGS) =>
    node.cache.getOrLoad(key, row.load, options);

  async function holds(key: string, row: Row): Promise<void> {
    await eventually(async () => assertEquals((await read(key, row)).source, "memory"));
  }

  /** Waits until memory stands in, and has it believed. */
  async function standIn(): Promise<Follow> {
    await redis.kill();
    return await eventually(() => {
      const follow = follows.at(-1);
      assert(follow !== undefined && !follow.disposed, "nobody follows");
      follow.alive(performance.now());
      return follow;
    });
  }

  it("keeps what it held, from when the feed was last heard of, and is told what changed", async () => {
    const [kept, changed, tagged] = [new Row("a"), new Row("b"), new Row("c")];
    await holds("kept", kept);
    await holds("changed", changed);
    await eventually(async () => {
      const found = await read("tagged", tagged, { tags: ["orders:*", "orders:7"] });
      assertEquals(found.source, "memory");
    });
    const { options, ...follow } = await standIn();
    assert(options.sinceMs >= 0 && options.sinceMs < 60_000, `${options.sinceMs}`);
    assertEquals((await read("kept", kept)).source, "memory");
    changed.value = "B";
    tagged.value = "C";
    follow.changed({ keys: ["changed"], tags: ["orders:7"] });
    assertEquals((await read("changed", changed)).value(), "B");
    assertEquals((await read("tagged", tagged)).value(), "C");
    for (const [key, row] of [["kept", kept], ["changed", changed], ["tagged", tagged]] as const) {
      await holds(key, row);
    }
    assertEquals(kept.reads, 1);
    follow.flushed();
    assertEquals((await read("kept", kept)).source, "load");
  });

  for (const end of ["changed", "flushed"] as const) {
    it(`does not keep a load that began before it was told: ${end}`, async () => {
      const row = new Row("old");
      const follow = await standIn();
      const release = row.hold();
      const found = later(read("k", row));
      await row.wasRead();
      row.value = "new";
      if (end === "changed") follow.changed({ keys: ["k"], tags: [] });
      else follow.flushed();
      release();
      assertEquals((await found).value(), "old");
      assertEquals((await read("k", row)).value(), "new");
    });
  }

  it("believes nothing before it is told that all was told, and no longer than the lease", async () => {
    const row = new Row("a");
    await holds("k", row);
    await redis.kill();
    const follow = await eventually(() => {
      assert(follows[0] !== undefined);
      return follows[0];
    });
    assertEquals((await read("k", row)).source, "load");
    follow.alive(performance.now() - 3_100);
    assertEquals((await read("k", row)).source, "load");
    follow.alive(performance.now());
    assertEquals((await read("k", row)).source, "memory");
  });

  it("drops, and goes on loading, what nobody tells of", async () => {
    const row = new Row("a");
    await holdInMemory([node], "untold", row.load);
    await standIn();
    for (let times = 0; times < 2; times++) {
      assertEquals((await node.cache.getOrLoad("untold", row.load)).source, "load");
    }
  });

  it("does not keep a value that has a tag which nobody tells of", async () => {
    const row = new Row("a");
    await standIn();
    for (let times = 0; times < 4; times++) {
      const options = { ...TAGS, tagsOf: () => ["settings"] };
      assertEquals((await node.cache.getOrLoad("tagged", row.load, options)).source, "load");
    }
  });

  it("invalidates here at once, and where the server is back as well", async () => {
    const row = new Row("old");
    await holds("k", row);
    const follow = await standIn();
    row.value = "new";
    assertEquals(await node.cache.delete("k"), "pending");
    assertEquals((await read("k", row)).value(), "new");
    await holds("k", row);
    await redis.start();
    await eventually(() => {
      follow.alive(performance.now());
      assert(follow.disposed);
    });
    await coherent(node);
    assertEquals(node.cache.stats().fallback, false);
    assertEquals((await read("k", row)).source, "load"); // Redis came back empty
    await holds("k", row);
  });

  it("ends as soon as the server is caught up with, whether or not the source says a word", async () => {
    const follow = await standIn();
    await redis.start();
    await eventually(() => assert(follow.disposed));
    assertEquals(node.cache.stats().fallback, false);
  });

  it("ends with the cache, and does not begin anew", async () => {
    const follow = await standIn();
    await node.cache.close();
    assertEquals([follows.length, follow.disposed], [1, true]);
  });
});
