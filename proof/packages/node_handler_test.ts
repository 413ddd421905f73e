import { assert, assertEquals, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { join } from "node:path";
import { freePort } from "../../tools/servers/free_port.ts";
import { ServerProcess } from "../../tools/servers/server_process.ts";
import { FILES, firstSample, visitAll } from "../../tests/support/dashboard_page.ts";
import { install, runtimeProgram, RUNTIMES } from "../../tests/support/installed.ts";
import { projectRoot } from "../../tests/support/source_tree.ts";

describe("nodeHandler()", () => {
  let folder = "";
  beforeAll(async () => {
    folder = await install({
      "@lookaside/cache": "*",
      "express": "^5.1.0",
      "hono": "^4.13.0",
    });
    const page = join(projectRoot, "docs/how-to/mount-the-dashboard.md");
    const [, program = ""] =
      /^```js ignore\n([\s\S]+?)^```$/m.exec(await Deno.readTextFile(page)) ?? [];
    await Deno.writeTextFile(join(folder, "shop.mjs"), program);
  });
  afterAll(() => Deno.remove(folder, { recursive: true }));

  for (const runtime of RUNTIMES) {
    it(`mounts the dashboard in Express on ${runtime}, from the package, as its page says`, async () => {
      const { command, args } = await runtimeProgram(runtime, folder);
      const port = freePort();
      await using shop = new ServerProcess({
        command,
        args: [...args, join(folder, "shop.mjs")],
        env: { PORT: `${port}`, REDIS_URL: "memory:" },
        ready: async (process) => {
          await process.lineMatching(/listening/);
        },
      });
      await shop.start();
      const url = `http://127.0.0.1:${port}`;
      const headers = { cookie: "admin=1" };
      // A connection that the client keeps for later would hold up a server of Node that closes.
      using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
      const send = (path: string, init: RequestInit = {}) =>
        fetch(new URL(path, url), { headers, client, ...init });
      for (const path of ["/_cache", "/_cache/", "/_CACHE?x=/y"]) {
        const visited = await visitAll(`${url}${path}`, send);
        assertEquals(visited.length, 1 + FILES.length);
      }
      const refused = await send("/_cache/cache/live", { headers: {} });
      await refused.body?.cancel();
      assertEquals(refused.status, 403);
      await (await send("/orders/7")).body?.cancel();
      assertEquals((await firstSample(await send("/_cache/cache/live"))).cache.loads, 1);
      const entry = await (await send("/_cache/cache/entries/order%3A7")).json();
      assert(entry.memory.bytes > 0);
      await (await send("/_cache/cache/entries/order%3A7", { method: "DELETE" })).body?.cancel();
      assertEquals((await (await send("/_cache/cache/entries/order%3A7")).json()).memory, null);
      const head = await send("/_cache", { method: "HEAD" });
      assertEquals([head.status, await head.text()], [200, ""]);
      const etag = (await send("/_cache/dashboard/main.js", { method: "HEAD" })).headers.get(
        "etag",
      );
      const unchanged = await send("/_cache/dashboard/main.js", {
        headers: { ...headers, "if-none-match": etag ?? "" },
      });
      assertEquals([unchanged.status, await unchanged.text()], [304, ""]);
      // One who looks on does not hold up the end.
      const looking = (await send("/_cache/cache/live")).text();
      assertEquals(await shop.stop(), 0);
      assertMatch(await looking, /^data: .*\n\n$/s);
    });
  }
});
