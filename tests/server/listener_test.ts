import { assertLess, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { getLogger } from "@logtape/logtape";
import { setTimeout as delay } from "node:timers/promises";
import { parseConfig } from "../../server/config.ts";
import { Listener } from "../../server/listener.ts";
import { freePort } from "../../tools/servers/free_port.ts";

describe("Listener.shutdown()", () => {
  it("waits for a body that begins to arrive while answers are held", async () => {
    const port = freePort();
    const config = parseConfig({ PORT: String(port), SHUTDOWN_TIMEOUT_MS: "60000" });
    let asked = Promise.withResolvers<void>();
    const listener = new Listener(config, async (request) => {
      asked.resolve();
      return new Response(await request.text().catch(() => "unreadable"));
    }, getLogger("test"));
    using writer = await connect(port);
    const stopped = listener.shutdown();
    for (;;) {
      asked = Promise.withResolvers();
      const answer = fetch(`http://127.0.0.1:${port}`).then((response) => response.text());
      await asked.promise;
      if (await Promise.race([answer, delay(20, "held")]) === "held") break;
    }
    asked = Promise.withResolvers();
    await send(writer, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n");
    await asked.promise;
    for (const letter of "it is all") {
      await delay(50);
      await send(writer, letter);
    }
    assertMatch(await new Response(writer.readable).text(), /\r\n\r\nit is all$/);
    const answeredAtMs = performance.now();
    await stopped;
    assertLess(performance.now() - answeredAtMs, 10_000);
  });

  it("waits for no body that does not arrive in half of its time", async () => {
    const port = freePort();
    const config = parseConfig({ PORT: String(port), SHUTDOWN_TIMEOUT_MS: "100" });
    const asked = Promise.withResolvers<void>();
    const listener = new Listener(config, async (request) => {
      asked.resolve();
      return new Response(await request.text().catch(() => "unreadable"));
    }, getLogger("test"));
    const writer = await connect(port);
    await send(writer, "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nit is");
    await asked.promise;
    const stopped = listener.shutdown();
    const chunk = new Uint8Array(1_000);
    let answer = "";
    for (let size: number | null = 0; size !== null && !answer.endsWith("unreadable");) {
      size = await writer.read(chunk);
      answer += new TextDecoder().decode(chunk.subarray(0, size ?? 0));
    }
    assertMatch(answer, /\r\nconnection: close\r\n/i);
    writer.close(); // as it was told to: Deno waits for the rest of its body
    await stopped;
  });

  it("has what was asked before answered with the end of its connection", async () => {
    const port = freePort();
    const asked = Promise.withResolvers<void>();
    const answered = Promise.withResolvers<Response>();
    const listener = new Listener(parseConfig({ PORT: String(port) }), () => {
      asked.resolve();
      return answered.promise;
    }, getLogger("test"));
    using writer = await connect(port);
    await send(writer, "GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    await asked.promise;
    const stopped = listener.shutdown();
    answered.resolve(new Response("late"));
    assertMatch(
      await new Response(writer.readable).text(),
      /^HTTP\/1\.1 200 [^]*\r\nconnection: close\r\n[^]*late$/i,
    );
    await stopped;
  });
});

function connect(port: number): Promise<Deno.TcpConn> {
  return Deno.connect({ hostname: "127.0.0.1", port });
}

async function send(connection: Deno.TcpConn, text: string): Promise<void> {
  await connection.write(new TextEncoder().encode(text));
}
