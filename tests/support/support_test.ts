import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { eventually } from "../../tools/servers/eventually.ts";
import { startPostgres } from "../../tools/servers/postgres_server.ts";
import { QueryCounter } from "./query_counter.ts";
import { startRedis } from "../../tools/servers/redis_server.ts";
import { ServerProcess } from "../../tools/servers/server_process.ts";
import { startTcpProxy } from "../../tools/servers/tcp_proxy.ts";
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

describe("PostgresServer", () => {
  it("paused, answers nobody until it is resumed; killed, keeps what was committed", async () => {
    await using server = await startPostgres({ settings: { synchronous_commit: "on" } });
    const sql = postgres(server.url, { max: 1, fetch_types: false, onclose: () => undefined });
    await sql.unsafe("CREATE TABLE kept (id INT)");
    server.pause();
    let answered = false;
    const inserted = sql.unsafe("INSERT INTO kept VALUES (1)").then(() => answered = true);
    await delay(100);
    assertEquals(answered, false);
    server.resume();
    await inserted;
    await server.kill();
    await server.start();
    await eventually(async () => assertEquals((await sql.unsafe("SELECT id FROM kept")).length, 1));
    await sql.end({ timeout: 1 });
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

  it("delays each chunk from its own arrival, and forwards in order", async () => {
    await using redis = await startRedis();
    await using proxy = startTcpProxy(redis.port);
    proxy.delay(100);
    using client = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
    const startedAtMs = performance.now();
    for (let i = 0; i < 5; i++) {
      await client.write(new TextEncoder().encode(`ECHO ${i}\r\n`));
      await delay(10);
    }
    let text = "";
    while (!text.endsWith("$1\r\n4\r\n")) text += await readText(client);
    const tookMs = performance.now() - startedAtMs;
    assertEquals(text, [0, 1, 2, 3, 4].map((i) => `$1\r\n${i}\r\n`).join(""));
    assert(tookMs >= 198, `${tookMs} ms`);
    // One after the other would take a second.
    assert(tookMs < 800, `${tookMs} ms`);
  });

  it("connects to another port once redirected", async () => {
    await using first = await startRedis();
    await using second = await startRedis();
    await using proxy = startTcpProxy(first.port);
    await second.cli("SET", "name", "second");
    using old = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
    await old.write(new TextEncoder().encode("GET name\r\n"));
    assertEquals(await readText(old), "$-1\r\n");
    proxy.redirect(second.port);
    assertEquals(await readText(old), "");
    using client = await Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
    await client.write(new TextEncoder().encode("GET name\r\n"));
    assertEquals(await readText(client), "$6\r\nsecond\r\n");
  });
});

describe("QueryCounter", () => {
  it("counts statements, and those that run at once, on a Postgres behind a proxy", async () => {
    await using server = await startPostgres();
    const counter = new QueryCounter();
    await using proxy = startTcpProxy(server.port, { observe: counter.observe });
    const sql = postgres(`postgres://postgres@127.0.0.1:${proxy.port}/postgres`, {
      max: 3,
      fetch_types: false,
    });
    await sql.unsafe("SELECT 1");
    await sql.unsafe("SELECT $1::int", [1], { prepare: true });
    assertEquals([counter.queries, counter.runningMax, counter.connectionsMax], [2, 1, 1]);
    await Promise.all([1, 2, 3].map(() => sql.unsafe("SELECT pg_sleep(0.2)")));
    assertEquals([counter.queries, counter.runningMax, counter.connectionsMax], [5, 3, 3]);
    counter.resetMax();
    // Longer than what one read of a socket answers.
    await sql.unsafe("SELECT repeat('Z', 1000000)");
    assertEquals([counter.queries, counter.runningMax, counter.connectionsMax], [6, 1, 3]);
    // A statement whose connection is cut runs no longer.
    const cut = sql.unsafe("SELECT pg_sleep(5)").catch(() => undefined);
    await eventually(() => assertEquals(counter.queries, 7));
    proxy.cut();
    await cut;
    proxy.pass();
    await eventually(async () => assertEquals((await sql.unsafe("SELECT 1")).length, 1));
    counter.resetMax();
    assertEquals(counter.runningMax, 0);
    await sql.end({ timeout: 1 });
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
