import { assert, assertEquals } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { NO_CHANGES } from "../../../cache/changes.ts";
import { type CacheOptions, OtherSourceError } from "../../../cache/mod.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { type RedisServer, startRedis } from "../../../tools/servers/redis_server.ts";
import { type Node, openNode, Row } from "./nodes.ts";

/** The changes of a source of truth that has a name, and never changes. */
function sourceOf(name: string): Pick<CacheOptions, "changes"> {
  return {
    changes: { attach: () => ({ ...NO_CHANGES, source: () => Promise.resolve(name) }) },
  };
}

describe("A Redis that another source of truth uses", () => {
  let redis: RedisServer;
  let shop: Node;

  beforeEach(async () => {
    redis = await startRedis();
    shop = openNode(redis.url, sourceOf("shop"));
    const row = new Row("of the shop");
    await eventually(async () => {
      assertEquals((await shop.cache.getOrLoad("k", row.load)).source, "memory");
    });
  });
  afterEach(async () => {
    await shop.cache.close();
    await redis[Symbol.asyncDispose]();
  });

  it("is refused, and not read, while that one runs; a prefix of one's own is not", async () => {
    await using blog = openNode(redis.url, sourceOf("blog"));
    const row = new Row("of the blog");
    await eventually(() => {
      const [event] = blog.events.filter(({ type }) => type === "catch-up-error");
      assert((event as { error?: unknown } | undefined)?.error instanceof OtherSourceError);
    });
    assertEquals((await blog.cache.getOrLoad("k", row.load)).value(), "of the blog");
    await using apart = openNode(redis.url, { ...sourceOf("blog"), prefix: "blog" });
    await eventually(async () => {
      const found = await apart.cache.getOrLoad("k", row.load);
      assertEquals([found.source, found.value()], ["memory", "of the blog"]);
    });
    await using second = openNode(redis.url, sourceOf("shop"));
    await eventually(async () => assertEquals((await second.cache.get("k"))?.source, "memory"));
  });

  const ends = { "is not in use": [], "is not in use, and has evicted whose it was": [":source"] };
  for (const [name, evicted] of Object.entries(ends)) {
    it(`is taken over, cleared, once it ${name}`, async () => {
      await shop.cache.close();
      const marks = [":source-in-use", ...evicted].map((part) => `la:1:{*}${part}`);
      await redis.cli("DEL", ...marks); // as after a minute
      await using blog = openNode(redis.url, sourceOf("blog"));
      const row = new Row("of the blog");
      await eventually(async () => {
        const found = await blog.cache.getOrLoad("k", row.load);
        assertEquals([found.source, found.value()], ["memory", "of the blog"]);
      });
      assertEquals(row.reads > 0, true);
    });
  }
});
