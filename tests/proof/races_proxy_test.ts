import { assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { RedisProxy } from "../../proof/races/proxy.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { startRedis } from "../../tools/servers/redis_server.ts";

/** Round trips after which an answer that is not held back has long come. */
const ROUNDS = 20;

const nobody = () => undefined;

describe("RedisProxy", () => {
  it("holds back one answer and what follows it on its connection, and nothing else", async () => {
    await using redis = await startRedis();
    await using proxy = await RedisProxy.start(redis.port, nobody);
    using held = await connectTo(proxy);
    using other = await connectTo(proxy);
    const answer = proxy.holdAnswer((chunk) => new TextDecoder().decode(chunk).includes("old"));
    await send(held, "ECHO before");
    assertEquals(await readText(held), "$6\r\nbefore\r\n");
    await send(held, "ECHO old");
    await answer.given;
    await send(other, "ECHO old");
    assertEquals(await readText(other), "$3\r\nold\r\n");
    await send(held, "ECHO after");
    let text = "";
    const reading = (async () => {
      while (!text.endsWith("after\r\n")) text += await readText(held);
    })();
    for (let round = 0; round < ROUNDS; round++) {
      await send(other, "PING");
      assertEquals(await readText(other), "+PONG\r\n");
    }
    assertEquals(text, "");
    answer.release();
    await reading;
    assertEquals(text, "$3\r\nold\r\n$5\r\nafter\r\n");
  });

  it("refuses new connections and leaves the others alone, until it passes again", async () => {
    await using redis = await startRedis();
    const seen: string[] = [];
    const note = (chunk: Uint8Array) => void seen.push(new TextDecoder().decode(chunk));
    await using proxy = await RedisProxy.start(redis.port, note);
    using open = await connectTo(proxy);
    await send(open, "PING");
    assertEquals(await readText(open), "+PONG\r\n");
    proxy.refuseNew();
    // An attempt that was under way is reset.
    await eventually(() => assertRejects(() => connectTo(proxy), Deno.errors.ConnectionRefused));
    await send(open, "PING");
    assertEquals(await readText(open), "+PONG\r\n");
    await proxy.pass();
    using client = await connectTo(proxy);
    await send(client, "PING");
    assertEquals(await readText(client), "+PONG\r\n");
    assertEquals(seen, ["PING\r\n", "PING\r\n", "PING\r\n"]);
  });
});

async function connectTo({ port }: RedisProxy): Promise<Deno.Conn> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  connection.setNoDelay();
  return connection;
}

async function send(connection: Deno.Conn, command: string): Promise<void> {
  await connection.write(new TextEncoder().encode(`${command}\r\n`));
}

async function readText(connection: Deno.Conn): Promise<string> {
  const buffer = new Uint8Array(1_024);
  const size = await connection.read(buffer) ?? 0;
  return new TextDecoder().decode(buffer.subarray(0, size));
}
