import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { eventually } from "./eventually.ts";
import { startPostgres } from "./postgres_server.ts";
import { startRedis } from "./redis_server.ts";
import { ServerProcess } from "./server_process.ts";
import { startTcpProxy } from "./tcp_proxy.ts";
import { createTestDatabase } from "./test_database.ts";

describe("startRedis()", () => {
  it("answers on its url, keeps its port across a restart and its data when append-only", async () => {
    await using redis = await startRedis({ appendOnly: true });
    assertEquals(await redis.cli("SET", "a", "1"), "OK");
    const { pid } = redis;
    await redis.kill();
    await assertRejects(() => redis.cli("PING"), Error, "PING: ");
    await redis.start();
    assert(redis.pid !== pid);
    assertEquals(await redis.cli("GET", "a"), "1");
  });

  it("forgets its data across a restart unless append-only", async () => {
    await using redis = await startRedis();
    await redis.cli("SET", "a", "1");
    await redis.restart();
    assertEquals(await redis.cli("EXISTS", "a"), "0");
  });

  it("answers nothing while paused and everything after", async () => {
    await using redis = await startRedis();
    await using witness = await startRedis();
    redis.pause();
    let answered = false;
    const pong = redis.cli("PING").finally(() => answered = true);
    using socket = await Deno.connect({ hostname: "127.0.0.1", port: redis.port });
    await socket.write(new TextEncoder().encode("PING\r\n"));
    // By the time a server that is not paused has answered twice, this one would have, too.
    for (let round = 0; round < 2; round++) assertEquals(await witness.cli("PING"), "PONG");
    assertEquals(answered, false);
    redis.resume();
    assertEquals(await pong, "PONG");
    assertEquals(await readText(socket), "+PONG\r\n");
  });
});

describe("ServerProcess", () => {
  it("start() rejects with the child's output when the child ends before it is ready", async () => {
    await using server = new ServerProcess({
      command: "sh",
      args: ["-c", "echo no config >&2; exit 3"],
      ready: () => new Promise(() => undefined),
    });
    const error = await assertRejects(() => server.start(), Error, "it ended with code 3");
    assertStringIncludes(error.message, "no config");
  });

  it("start() rejects when the child is not ready in time, and ends it", async () => {
    await using server = new ServerProcess({
      command: "sleep",
      args: ["60"],
      ready: () => new Promise(() => undefined),
      readyWithinMs: 50,
    });
    await assertRejects(() => server.start(), Error, "not ready within 50 ms");
    assertEquals(server.running, false);
  });
});

describe("startPostgres()", () => {
  it("gives databases that are dropped with whoever is connected, across restarts", async () => {
    await using server = await startPostgres();
    const database = await createTestDatabase(server.url);
    await server.restart();
    await assertRejects(() => createTestDatabase(server.urlOf("nowhere")), Error, "does not exist");
    await database[Symbol.asyncDispose]();
    await assertRejects(() => createTestDatabase(database.url), Error, "does not exist");
  });
});

describe("startTcpProxy()", () => {
  it("passes, holds back while hung, cuts and refuses, and passes again", async () => {
    await using redis = await startRedis();
    await using proxy = startTcpProxy(redis.port);
    const ping = new TextEncoder().encode("PING\r\n");
    {
      using client = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
      await client.write(ping);
      assertEquals(await readText(client), "+PONG\r\n");
      proxy.hang();
      await client.write(ping);
      let answered = false;
      const pong = readText(client).finally(() => answered = true);
      assertEquals(await redis.cli("PING"), "PONG");
      assertEquals(answered, false);
      proxy.pass();
      assertEquals(await pong, "+PONG\r\n");
      proxy.cut();
      assertEquals(await readText(client), "");
    }
    await assertRejects(
      () => Deno.connect({ hostname: "127.0.0.1", port: proxy.port }),
      Deno.errors.ConnectionRefused,
    );
    proxy.pass();
    using client = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
    await client.write(ping);
    assertEquals(await readText(client), "+PONG\r\n");
  });

  it("delays each chunk", async () => {
    await using redis = await startRedis();
    await using proxy = startTcpProxy(redis.port);
    proxy.delay(30);
    using client = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
    const startedAtMs = performance.now();
    await client.write(new TextEncoder().encode("PING\r\n"));
    assertEquals(await readText(client), "+PONG\r\n");
    assert(performance.now() - startedAtMs >= 58);
  });
});

describe("eventually()", () => {
  it("answers what the check answers once it holds, else throws what it threw last", async () => {
    let tries = 0;
    const answer = await eventually(() => {
      if (++tries < 3) throw new Error("not yet");
      return tries;
    }, { everyMs: 1 });
    assertEquals(answer, 3);
    await assertRejects(
      () => eventually(() => Promise.reject(new Error("never")), { deadlineMs: 5, everyMs: 1 }),
      Error,
      "never",
    );
  });
});

async function readText(connection: Deno.Conn): Promise<string> {
  const buffer = new Uint8Array(1024);
  const size = await connection.read(buffer).catch((error: unknown) => {
    if (error instanceof Deno.errors.ConnectionReset) return null;
    throw error;
  });
  return new TextDecoder().decode(buffer.subarray(0, size ?? 0));
}
