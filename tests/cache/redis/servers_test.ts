/**
 * Servers that are not set up as usual: used all the same, or told what is missing.
 */
import { Buffer } from "node:buffer";
import { connect, createServer, type Socket } from "node:net";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { freePort, lastingPort } from "../../../tools/servers/free_port.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { startRedis } from "../../../tools/servers/redis_server.ts";
import { startRedisSentinel } from "../../../tools/servers/redis_sentinel.ts";
import { changesThat, freshPrefix, type Node, openNode, QUIET, Row } from "./nodes.ts";

/** The messages of the errors that a node has told. */
function told({ events }: Node): string[] {
  return events.flatMap((event) =>
    event.type === "redis-error" ? [`${event.command}: ${(event.error as Error).message}`] : []
  );
}

async function answersFrom(node: Node, source: string): Promise<void> {
  const row = new Row("a");
  await eventually(async () => {
    assertEquals((await node.cache.getOrLoad("k", row.load)).source, source);
  });
}

describe("Cache on a Redis that does not let it track keys", () => {
  it("is answered from Redis, says once what that costs, and does not ask each second", async () => {
    await using redis = await startRedis();
    await redis.cli("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-client|tracking");
    const url = `redis://app:pw@127.0.0.1:${redis.port}`;
    await using node = openNode(url, { prefix: freshPrefix(), memoryLeaseMs: 1_000 });
    await answersFrom(node, "redis");
    const connections = async () =>
      Number(/total_connections_received:(\d+)/.exec(await redis.cli("INFO", "stats"))?.[1]);
    const before = await connections();
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    assertEquals(await connections() - before, 1); // that of the question itself
    assertEquals(told(node).length, 1);
    assertMatch(told(node).join(), /^client tracking: memory is not used: .*NOPERM/);
  });
});

describe("Cache on a server whose INFO has no run_id", () => {
  it("tells its lives apart by when it was started", async () => {
    await using redis = await startRedis();
    await using nameless = await startNameless(redis.port);
    const replays: boolean[] = [];
    const changes = changesThat((_server, replay) => Promise.resolve(void replays.push(replay)));
    await using node = openNode(`redis://127.0.0.1:${nameless.port}`, { changes });
    await answersFrom(node, "memory");
    await using second = openNode(`redis://127.0.0.1:${nameless.port}`, { changes });
    await answersFrom(second, "memory");
    assertEquals(replays, [true, false]);
  });
});

/** Passes on to a Redis, in whose answers the name of the field `run_id` is another. */
async function startNameless(port: number): Promise<AsyncDisposable & { readonly port: number }> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const redis = connect(port, "127.0.0.1");
    client.pipe(redis);
    redis.on("data", (bytes: Uint8Array) => {
      const text = Buffer.from(bytes).toString("latin1").replace("run_id:", "no_one:");
      client.write(Buffer.from(text, "latin1"));
    });
    for (const [socket, other] of [[client, redis], [redis, client]] as const) {
      sockets.add(socket);
      socket.on("error", () => other.destroy());
      socket.on("close", () => other.destroy());
    }
  });
  const own = freePort();
  await new Promise<void>((resolve) => void server.listen(own, "127.0.0.1", resolve));
  return {
    port: own,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => void server.close(resolve));
    },
  };
}

describe("Cache on a server that closes new connections", () => {
  const replies: Readonly<Record<string, readonly [reply: string, told: RegExp]>> = {
    "without a word": ["", /perhaps it wants TLS/],
    "in protected mode": [
      "-DENIED Redis is running in protected mode because no password is set for the default user.\r\n",
      /DENIED Redis is running in protected mode/,
    ],
  };
  for (const [name, [reply, message]] of Object.entries(replies)) {
    it(`${name}: says why`, async () => {
      const server = createServer((client) => {
        client.on("error", () => undefined);
        client.resume().end(reply);
      });
      const port = freePort();
      await new Promise<void>((resolve) => void server.listen(port, "127.0.0.1", resolve));
      {
        await using node = openNode(`redis://127.0.0.1:${port}`, { prefix: freshPrefix() });
        await eventually(() => assert(told(node).some((text) => message.test(text))));
      }
      await new Promise((resolve) => void server.close(resolve));
    });
  }
});

describe("Cache on a cluster that announces no address", () => {
  it("says so", async () => {
    const args = ["--cluster-enabled", "yes", "--cluster-port", String(lastingPort())];
    await using redis = await startRedis({ port: lastingPort(), args });
    await redis.cli("CLUSTER", "ADDSLOTSRANGE", "0", "16383");
    await using node = openNode(`redis-cluster://127.0.0.1:${redis.port}`);
    await eventually(() => assert(told(node).some((text) => text.includes("cluster-announce-ip"))));
  });
});

describe("Cache on Sentinels that name its primary no more", () => {
  type Tell = (...command: string[]) => Promise<unknown>;
  const causes: readonly (readonly [
    string,
    RegExp,
    (tell: Tell) => unknown,
    (tell: Tell, port: number) => unknown,
  ])[] = [
    [
      "they do not know it",
      /knows no lookaside/,
      (tell) => tell("SENTINEL", "REMOVE", "lookaside"),
      (tell, port) => tell("SENTINEL", "MONITOR", "lookaside", "127.0.0.1", `${port}`, "2"),
    ],
    [
      "they do not let it ask",
      /NOPERM/,
      (tell) => tell("ACL", "SETUSER", "default", "-sentinel|master"),
      (tell) => tell("ACL", "SETUSER", "default", "+sentinel|master"),
    ],
  ];
  for (const [cause, message, begin, end] of causes) {
    it(`${cause}: trusts nothing, and has memory stand in, until they do again`, async () => {
      await using topology = await startRedisSentinel();
      await using node = openNode(topology.serviceUrl, { prefix: freshPrefix(), changes: QUIET });
      await answersFrom(node, "memory");
      const { port } = await topology.primary();
      const tell: Tell = (...command) =>
        Promise.all(topology.sentinels.map((each) => each.cli(...command)));
      await begin(tell);
      await eventually(() => assertEquals(node.cache.stats().fallback, true));
      assert(told(node).some((text) => message.test(text)));
      await answersFrom(node, "memory");
      await end(tell, port);
      await eventually(() => assertEquals(node.cache.stats().fallback, false));
      await answersFrom(node, "memory");
    });
  }
});

describe("Cache on Sentinels that want a password", () => {
  it("logs in with its own, or with that of the servers", async () => {
    await using topology = await startRedisSentinel();
    const { username, password } = new URL(topology.serviceUrl.replace(/:\/\/([^,]*).*/, "://$1"));
    for (const sentinel of topology.sentinels) {
      await sentinel.cli("ACL", "SETUSER", username, "on", `>${password}`, "&*", "+@all");
      await sentinel.cli("ACL", "SETUSER", "other", "on", ">own", "&*", "+@all");
      await sentinel.cli("ACL", "SETUSER", "default", "off");
    }
    const prefix = freshPrefix();
    {
      await using same = openNode(topology.serviceUrl, { prefix });
      await answersFrom(same, "memory");
    }
    {
      const connect = () => ({ sentinelUsername: "other", sentinelPassword: "own" });
      await using own = openNode(topology.serviceUrl, { prefix, connect });
      await answersFrom(own, "memory");
    }
    let sentinelPassword = "none";
    await using wrong = openNode(topology.serviceUrl, {
      prefix,
      connect: () => ({ sentinelUsername: "other", sentinelPassword }),
    });
    await eventually(() => assert(told(wrong).some((text) => /WRONGPASS|NOAUTH/.test(text))));
    sentinelPassword = "own";
    await answersFrom(wrong, "memory");
  });
});
