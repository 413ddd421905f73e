import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { eventually } from "../../../tools/servers/eventually.ts";
import { type RedisServer, startRedis } from "../../../tools/servers/redis_server.ts";
import { changesThat, type Node, openNode } from "./nodes.ts";

/** An instance, and for each time that it caught up whether it applied again what had been applied. */
function openFollower(url: string) {
  const replays: boolean[] = [];
  const node = openNode(url, {
    changes: changesThat((_server, replay) => {
      replays.push(replay);
      return Promise.resolve();
    }),
  });
  const caughtUp = (times: number) =>
    eventually(() => assertEquals(node.count("caught-up"), times));
  return { node, replays, caughtUp };
}

/** Has a server take the data of another one, and leave it again. */
async function replicate(replica: RedisServer, primary: RedisServer): Promise<void> {
  await replica.cli("REPLICAOF", "127.0.0.1", String(primary.port));
  await eventually(async () => {
    assertEquals((await replica.cli("ROLE")).split("\n")[3], "connected");
  });
  await replica.cli("REPLICAOF", "NO", "ONE");
}

describe("Cache that catches up with a Redis", () => {
  it("applies again what had been applied in each life of the server, and not for an instance that joins", async () => {
    await using redis = await startRedis({ appendOnly: true });
    const first = openFollower(redis.serviceUrl);
    await using _first = first.node;
    await first.caughtUp(1);
    assertEquals(first.replays, [true]);

    const second = openFollower(redis.serviceUrl);
    await using _second = second.node;
    await second.caughtUp(1);
    assertEquals(second.replays, [false]);

    await redis.kill();
    await redis.start();
    await Promise.all([first.caughtUp(2), second.caughtUp(2)]);
    assertEquals([first.replays, second.replays], [[true, true], [false, true]]);

    const third = openFollower(redis.serviceUrl);
    await using _third = third.node;
    await third.caughtUp(1);
    assertEquals(third.replays, [false]);
  });

  it("clears a server that restarted from an old file and has evicted what told of its life", async () => {
    await using redis = await startRedis();
    const open = () => openNode(redis.serviceUrl, { memoryBytes: 0 });
    const read = ({ cache }: Node, value: string) =>
      cache.getOrLoad("key", () => Promise.resolve(value));
    await using node = open();
    await eventually(() => assertEquals(node.count("caught-up", { replayed: false }), 1));
    await eventually(async () => assertEquals((await read(node, "old")).source, "redis"));
    assertEquals(await redis.cli("DEL", "la:1:{*}:caught-up"), "1");
    await redis.cli("SAVE");
    assertEquals(await node.cache.delete("key"), "applied");
    await node.cache.close();

    await redis.kill();
    await redis.start();
    assertEquals(await redis.cli("EXISTS", "la:1:{key}"), "1");
    await using other = open();
    await eventually(() => assertEquals(other.count("caught-up", { replayed: true }), 1));
    assertEquals((await read(other, "new")).value(), "new");
  });

  it("does not clear what a process has stored before it caught up for the first time", async () => {
    await using redis = await startRedis();
    await using node = openNode(redis.serviceUrl, { memoryBytes: 0 });
    await node.cache.getOrLoad("key", () => Promise.resolve("value"));
    await eventually(() => assertEquals(node.count("caught-up"), 1));
    assertEquals(node.count("caught-up", { replayed: true }), 0);
  });

  it("clears a server that restarted from an old file, without a record of changes", async () => {
    await using redis = await startRedis();
    const open = () => openNode(redis.serviceUrl, { memoryBytes: 0 });
    const source = async ({ cache }: Node) =>
      (await cache.getOrLoad("key", () => Promise.resolve("new"))).source;
    await using node = open();
    await eventually(() => assertEquals(node.count("caught-up"), 1));
    assertEquals(await source(node), "load");
    await eventually(async () => assertEquals(await source(node), "redis"));
    await redis.cli("SAVE");
    assertEquals(await node.cache.delete("key"), "applied");

    await redis.kill();
    await redis.start();
    assertEquals(await redis.cli("EXISTS", "la:1:{key}"), "1");
    await eventually(() => assertEquals(node.count("caught-up", { replayed: true }), 1));
    assertEquals(await source(node), "load");
    await eventually(async () => assertEquals(await source(node), "redis"));
    await using other = open();
    await eventually(() => assertEquals(other.count("caught-up", { replayed: false }), 1));
    assertEquals(await source(other), "redis");
  });

  it("takes a primary that was a replica meanwhile for another one", async () => {
    await using redis = await startRedis();
    await using other = await startRedis();
    const first = openFollower(redis.serviceUrl);
    await first.caughtUp(1);
    await first.node[Symbol.asyncDispose]();

    // Both have what the first one was told, and then each lives without the other for a while.
    await replicate(other, redis);
    await replicate(redis, other);
    assertEquals(await redis.cli("EXISTS", "la:1:{*}:caught-up"), "1");
    const second = openFollower(redis.serviceUrl);
    await using _second = second.node;
    await second.caughtUp(1);
    assertEquals(second.replays, [true]);
  });
});
