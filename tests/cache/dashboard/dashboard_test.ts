import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Hono } from "hono";
import { bearerAuth } from "hono/bearer-auth";
import { join } from "node:path";
import {
  dashboard,
  type DashboardOptions,
  type DashboardPlugin,
  InvalidationLog,
  Latencies,
} from "../../../cache/dashboard/mod.ts";
import { Cache, type CacheOptions, type Changes } from "../../../cache/mod.ts";
import { sourceFiles } from "../../../tools/source_files.ts";
import { FakeRuntime } from "../../support/fake_runtime.ts";
import { projectRoot } from "../../support/source_tree.ts";
import { FILES, firstSample, visitAll } from "../../support/dashboard_page.ts";

/** All but the page and its files. */
const guarded = [
  ["GET", "/_cache/cache/live"],
  ["HEAD", "/_cache/cache/live"],
  ["GET", "/_cache/cache/entries/a"],
  ["DELETE", "/_cache/cache/entries/a"],
  ["DELETE", "/_cache/cache"],
] as const;

/** An app with a dashboard at a path. */
function mount(
  path: string,
  options: DashboardOptions = {},
  cacheOptions: CacheOptions = {},
) {
  const runtime = new FakeRuntime();
  const cache = new Cache({ runtime, ...cacheOptions });
  const app = new Hono();
  app.route(path, dashboard(cache, { open: true, ...options, clock: runtime.clock }));
  return {
    app,
    cache,
    clock: runtime.clock,
    [Symbol.asyncDispose]: () => cache.close(),
  };
}

describe("dashboard()", () => {
  for (
    const [path, base] of [["/_cache", "/_cache"], ["/admin/cache/", "/admin/cache"], ["/", ""]]
  ) {
    it(`is whole at ${path}: all that it loads is below it`, async () => {
      await using mounted = mount(path ?? "");
      const visited = await visitAll(
        `http://shop.example${path}`,
        (url) => mounted.app.request(url),
      );
      assertEquals(visited, [path, ...FILES.map((name) => `${base}/dashboard/${name}`)].sort());
    });
  }

  it("cannot be led astray by the path that it is asked for by", async () => {
    await using mounted = mount("/:shop/a:b");
    const page = await (await mounted.app.request("/x/a:b?y=/z")).text();
    assertMatch(page, /src="\.\/a:b\/dashboard\/main\.js"/);
    await using other = mount("/:name");
    const { app } = other;
    const quoted = await app.request("/x", {}, { incoming: { originalUrl: '/"><b>&' } });
    assertMatch(await quoted.text(), /src="\.\/%22%3E%3Cb%3E%26\/dashboard\/main\.js"/);
  });

  it("is closed without a guard, unless it is said to be open", async () => {
    await using cache = new Cache();
    for (const options of [undefined, {}, { open: false }]) {
      const app = new Hono().route("/_cache", dashboard(cache, options));
      assertEquals((await app.request("/_cache")).status, 200); // the page, which says so
      for (const [method, path] of guarded) {
        const response = await app.request(path, { method });
        assertEquals(response.status, 403, path);
        if (method === "GET") assertMatch(await response.text(), /give dashboard\(\) a guard/);
      }
    }
  });

  it("keeps all but the page and its files behind the guard", async () => {
    await using mounted = mount("/_cache", { guard: bearerAuth({ token: "secret" }) });
    const { app, cache } = mounted;
    await cache.set("a", 1);
    for (const [method, path] of guarded) {
      const { status } = await app.request(path, { method });
      assertEquals([method, path, status], [method, path, 401]);
    }
    assertEquals((await cache.get("a"))?.value(), 1);
    await visitAll("http://shop.example/_cache", (url) => app.request(url));
    const headers = { authorization: "Bearer secret" };
    for (const [method, path] of guarded) {
      const { status, body } = await app.request(path, { method, headers });
      await body?.cancel();
      assertEquals([method, path, status], [method, path, 200]);
    }
    assertEquals(await cache.get("a"), undefined);
  });

  it("refuses options that are none, as a text that would admit everybody", async () => {
    await using cache = new Cache();
    for (const options of [{ gard: () => undefined }, { open: "false" }, { guard: "secret" }]) {
      assertThrows(() => dashboard(cache, options as object), TypeError, "Cannot use");
    }
  });

  it("refuses pages of other sites where it is open", async () => {
    await using mounted = mount("/_cache");
    const ask = async (site: string | undefined, method = "GET") => {
      const headers: HeadersInit = site === undefined ? {} : { "sec-fetch-site": site };
      return (await mounted.app.request("/_cache/cache/entries/a", { method, headers })).status;
    };
    assertEquals([await ask(undefined), await ask("same-origin"), await ask("none")], [
      200,
      200,
      200,
    ]);
    assertEquals([await ask("cross-site"), await ask("same-site", "DELETE")], [403, 403]);
  });

  it("tells nothing of what the program does not note, or is not told", async () => {
    await using mounted = mount("/_cache");
    await mounted.cache.getOrLoad("a", () => Promise.resolve(1));
    const sample = await firstSample(await mounted.app.request("/_cache/cache/live"));
    assertEquals([sample.cache.loads, sample.latencies, sample.invalidations], [1, null, null]);
    assertEquals("changes" in sample, false);
  });

  it("tells of durations and invalidations that the program notes, and of changes", async () => {
    const latencies = new Latencies();
    const invalidations = new InvalidationLog();
    const stats = { applied: 1, replayed: 0, backlog: 7, lagMs: 1, heldMs: 0, bytes: 1 };
    const changes: Changes = { ...new Cache().changes, stats: () => Promise.resolve(stats) };
    await using mounted = mount("/_cache", { latencies, invalidations }, {
      changes: { attach: () => ({ ...changes, [Symbol.asyncDispose]: () => Promise.resolve() }) },
      onLookup: ({ source, durationMs }) => latencies.note(source, durationMs),
    });
    const { app, cache, clock } = mounted;
    await cache.getOrLoad("a", () => Promise.resolve(1));
    invalidations.note("sign-out", { keys: ["a"] });
    await app.request("/_cache/cache/entries/b", { method: "DELETE" });
    await app.request("/_cache/cache", { method: "DELETE" });
    const response = await app.request("/_cache/cache/live");
    await clock.advance(1_000);
    const sample = await lastSample(response, 2);
    assertEquals(sample.changes.backlog, 7);
    assertEquals(
      sample.invalidations.map(({ cause, keys, everything }: Record<string, unknown>) => [
        cause,
        everything ? "all" : keys,
      ]),
      [["admin", "all"], ["admin", ["b"]], ["sign-out", ["a"]]],
    );
  });

  it("answers HEAD without beginning a stream", async () => {
    await using mounted = mount("/_cache");
    const { timers } = mounted.clock;
    const { status, body } = await mounted.app.request("/_cache/cache/live", { method: "HEAD" });
    assertEquals([status, body, mounted.clock.timers], [200, null, timers]);
  });

  it("ends the streams when its signal does", async () => {
    const stopping = new AbortController();
    await using mounted = mount("/_cache", { signal: stopping.signal });
    const reader = (await mounted.app.request("/_cache/cache/live")).body?.getReader();
    assertEquals((await reader?.read())?.done, false);
    stopping.abort();
    assertEquals((await reader?.read())?.done, true);
    assertEquals((await mounted.app.request("/_cache/cache/live")).status, 503);
  });

  it("shows what a plug-in adds, beside its own", async () => {
    let asked = 0;
    const plugin = (): Promise<DashboardPlugin> => {
      asked++;
      return Promise.resolve({
        files: new Map([
          ["own.js", { text: 'import { byId } from "./text.js";\n', type: "text/javascript" }],
          ["main.js", { text: "stolen", type: "text/javascript" }],
        ]),
        head: '<script src="dashboard/own.js" type="module"></script>',
        nav: "<nav>$& $1</nav>",
        sections: '<section id="own"></section>',
      });
    };
    await using mounted = mount("/_cache", { plugin });
    const { app } = mounted;
    assertEquals(asked, 0, "asked before it was wanted");
    const page = await (await app.request("/_cache")).text();
    assertMatch(page, /<nav>\$& \$1<\/nav>\s*<\/header>/);
    assertMatch(page, /<section id="own"><\/section>\s*<section class="charts"/);
    const visited = await visitAll("http://shop.example/_cache", (url) => app.request(url));
    assert(visited.includes("/_cache/dashboard/own.js"));
    const main = await (await app.request("/_cache/dashboard/main.js")).text();
    assert(!main.includes("stolen"));
    assertEquals((await app.request("/_cache/dashboard/index.html")).status, 404);
  });

  it("has no element of the sample table in its files", async () => {
    const folder = join(projectRoot, "cache/dashboard/web");
    for (const extension of [".js", ".css", ".html"]) {
      for (const path of await sourceFiles(folder, extension)) {
        const text = await Deno.readTextFile(join(folder, path));
        const found = /\busers?\b(?!-)|\bbio\b|\bfive steps\b|"\/\w/i.exec(text)?.[0];
        assertEquals([path, found], [path, undefined]);
      }
    }
  });
});

/** The last of so many samples of a stream, which ends with it. */
async function lastSample(response: Response, count: number) {
  const reader = response.body?.getReader();
  let text = "";
  for (let read = 0; read < count; read++) {
    text = new TextDecoder().decode((await reader?.read())?.value);
  }
  await reader?.cancel();
  return JSON.parse(text.replace(/^data: /, ""));
}
