/**
 * The service behind an nginx of Debian's.
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { eventually } from "../../tools/servers/eventually.ts";
import { type NginxServer, startNginx } from "../../tools/servers/nginx_server.ts";
import { startService } from "../../tools/servers/service.ts";
import { startConnectionLoad } from "../support/connection_load.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { serviceEnv } from "../support/service_env.ts";

describe("the service behind nginx", () => {
  const stack = new AsyncDisposableStack();
  let env: Record<string, string>;

  beforeAll(async () => {
    const database = stack.use(await createSeededDatabase(100));
    env = serviceEnv(database.url);
  });
  afterAll(() => stack.disposeAsync());

  it("lets no stranger write or look inside where there is no token, though no header gives the proxy away", async () => {
    await using service = await startService({ env: { ...env, ADMIN_OPEN: "off" } });
    await using nginx = await startNginx(service.port);
    const body = JSON.stringify({ bio: "by a stranger" });
    const headers = { "content-type": "application/json" };
    for (
      const [method, path, init] of [
        ["PATCH", "/users/1", { body, headers }],
        ["DELETE", "/users/2", {}],
        ["DELETE", "/cache", {}],
        ["GET", "/cache/stats", {}],
        ["GET", "/metrics", {}],
      ] as const
    ) assertEquals(await statusOf(nginx, path, { method, ...init }), 403, `${method} ${path}`);
    assertEquals(await statusOf(nginx, "/users/1"), 200);
    assertEquals(await statusOf(nginx, "/users/2"), 200);
  });

  it("tells clients apart by the address that nginx appends, with a port, in brackets or bare", async () => {
    const forms = {
      "X-Forwarded-For": [
        "$remote_addr",
        "$remote_addr:$remote_port",
        "[$remote_addr]:$remote_port",
      ],
      "Forwarded": [
        "for=$remote_addr",
        'for="$remote_addr:$remote_port"',
        'for="[$remote_addr]:$remote_port"',
      ],
    };
    for (const [header, [bare, withPort, bracketed]] of Object.entries(forms)) {
      for (const [here, there] of [[withPort, bracketed], [bare, bracketed]]) {
        await using service = await startService({
          env: {
            ...env,
            CACHE_PREFIX: `t${crypto.randomUUID().slice(0, 8)}`,
            TRUST_PROXY: "1",
            CLIENT_RATE_LIMIT: "5",
            ADMIN_OPEN: "off",
          },
        });
        // IPv4 at the one, IPv6 at the other: in brackets, as it has to be.
        await using four = await startNginx(service.port, {
          location: `proxy_set_header ${header} '${here}';`,
        });
        await using six = await startNginx(service.port, {
          location: `proxy_set_header ${header} '${there}';`,
        });
        let answered = 0;
        // Until the limits have their Redis, each is counted here alone.
        while (await statusOf(four, "/users/1") !== 429) answered++;
        assert(answered >= 5 && answered <= 11, `${answered} were answered`);
        assertEquals(await statusOf(six, "/users/1", {}, "[::1]"), 200, `${here} and ${there}`);
        assertEquals(await statusOf(four, "/users/1"), 429);
      }
    }
  });

  it("loses no request on the connections that nginx keeps when it is told to stop", async () => {
    await using service = await startService({ env });
    // It would ask once more for what is lost, and hide that from us, where it may: not for a write.
    const location = "proxy_next_upstream off;";
    await using nginx = await startNginx(service.port, { keepsConnections: true, location });
    const path = (n: number) => `/users/${n % 100 + 1}`;
    await using load = startConnectionLoad({ port: nginx.port, path, fresh: 2, kept: 8 });
    await eventually(() => assertGreater(load.result.kept, 500));
    service.signal("SIGTERM");
    assertEquals((await service.exited()).code, 0, service.log);
    const { failures } = await load.stop();
    // What nginx could not pass on any more is no loss, unlike what was taken and not answered.
    assertEquals(failures.filter((text) => !text.includes("HTTP/1.1 502 ")), []);
    assertEquals(
      /prematurely closed|reset by peer|timed out/.exec(nginx.log)?.[0],
      undefined,
      nginx.log,
    );
  });
});

async function statusOf(
  { port }: NginxServer,
  path: string,
  init: RequestInit = {},
  host = "127.0.0.1",
): Promise<number> {
  const response = await fetch(`http://${host}:${port}${path}`, init);
  await response.body?.cancel();
  return response.status;
}
