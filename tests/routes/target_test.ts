import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { freePort } from "../../tools/servers/free_port.ts";
import { createApi } from "./api_fixture.ts";

const METHODS = ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "NONSENSE"];

/** Sends lines as they are and answers the status: no client of HTTP would write these. */
async function statusOf(port: number, ...lines: string[]): Promise<number> {
  using connection = await Deno.connect({ hostname: "127.0.0.1", port });
  const text = [...lines, "Connection: close", "", ""].join("\r\n");
  await connection.write(new TextEncoder().encode(text));
  const answer = await new Response(connection.readable).text();
  return Number(/^HTTP\/1\.[01] (\d+)/.exec(answer)?.[1]);
}

describe("createApp(), to a Host and a target that make no URL,", () => {
  async function served(run: (port: number) => Promise<void>): Promise<string[]> {
    await using api = createApi();
    const port = freePort();
    const server = Deno.serve(
      { hostname: "127.0.0.1", port, onListen: () => {} },
      (request, info) => api.fetch(request, info),
    );
    await run(port);
    await server.shutdown();
    return api.users.calls;
  }

  for (
    const host of [
      "x/users/1?",
      "x/healthz?",
      "x#",
      "x?",
      "x@y",
      "x:99999",
      "x:y",
      "[::1",
      "x y",
      "http://x",
      "\\x",
    ]
  ) {
    it(`answers 400 whatever the method, and asks nobody (${host})`, async () => {
      const calls = await served(async (port) => {
        for (const method of METHODS) {
          const status = await statusOf(port, `${method} /users/1 HTTP/1.1`, `Host: ${host}`);
          assertEquals(status, 400, method);
        }
      });
      assertEquals(calls, []);
    });
  }

  for (const target of ["http://other/users/1", "http://u:p@x/users/1", "/users/1#f"]) {
    it(`answers 400 to ${target}`, async () => {
      await served(async (port) => {
        for (const method of METHODS) {
          assertEquals(
            await statusOf(port, `${method} ${target} HTTP/1.1`, "Host: x"),
            400,
            method,
          );
        }
      });
    });
  }

  it("answers where they do, in any form", async () => {
    await served(async (port) => {
      for (const host of ["x", "X.Example:80", "[::1]:3000", "127.0.0.1", "a_b", ""]) {
        const status = await statusOf(port, "GET /users/1 HTTP/1.1", `Host: ${host}`);
        assertEquals(status, 200, host);
      }
      assertEquals(await statusOf(port, "GET http://x/users/1 HTTP/1.1", "Host: x"), 200);
      assertEquals(await statusOf(port, "GET /users/1 HTTP/1.0"), 200);
    });
  });

  it("finds for HEAD what it finds for GET, and counts the path that the router reads", async () => {
    await using api = createApi();
    for (const target of ["/users/../healthz", "/%75sers/1", "/users?ids=%31"]) {
      const [get, head] = await Promise.all(["GET", "HEAD"].map(async (method) => {
        const { status, body } = await api.fetch(rawRequest(method, `http://x${target}`));
        await body?.cancel();
        return status;
      }));
      assertEquals(head, get, target);
    }
    const metrics = await (await api.send("/metrics")).text();
    const counts = metrics.split("\n").filter((line) =>
      /^lookaside_requests_total\{.*route="(other|\/users(\/:id)?|\/healthz)"/.test(line) &&
      !line.endsWith(" 0")
    );
    assertEquals(counts.length, 3, counts.join("\n"));
  });
});

/** A request whose URL is not rewritten, as Deno's server makes them. */
function rawRequest(method: string, url: string): Request {
  const request = new Request(url, { method });
  return new Proxy(request, {
    get: (target, name) => name === "url" ? url : Reflect.get(target, name, target),
  });
}
