import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { Hono } from "hono";
import { bearerAuth } from "hono/bearer-auth";
import type { Browser } from "playwright-core";
import { dashboard, InvalidationLog, Latencies } from "../../cache/dashboard/mod.ts";
import { Cache } from "../../cache/mod.ts";
import { startChromium } from "../../tools/servers/chromium.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { requiredEnv } from "../support/test_database.ts";
import { assertFits, becomesLive, openDashboard, tile, violations } from "./_dashboard_page.ts";

const TOKEN = "correct-horse-battery";

/** A program of its own with a dashboard at two places: whole and guarded, and with what a cache alone tells. */
function startShop() {
  const latencies = new Latencies();
  const invalidations = new InvalidationLog();
  const cache = new Cache({
    url: requiredEnv("REDIS_URL"),
    prefix: `t${crypto.randomUUID().slice(0, 8)}`,
    onLookup: ({ source, durationMs }) => latencies.note(source, durationMs),
  });
  const stopping = new AbortController();
  const { signal } = stopping;
  const app = new Hono();
  app.get("/orders/:id", async (context) => {
    const id = context.req.param("id");
    const found = await cache.getOrLoad(`order:${id}`, () => Promise.resolve({ id }));
    return context.body(`${found.text}`, 200, { "content-type": "application/json" });
  });
  const guard = bearerAuth({ token: TOKEN });
  app.route("/admin/cache", dashboard(cache, { guard, latencies, invalidations, signal }));
  app.route("/_cache", dashboard(cache, { open: true, signal }));
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, app.fetch);
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    cache,
    invalidations,
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await server.shutdown();
      await cache.close();
    },
  };
}

describe("a dashboard that is mounted in a program of its own", () => {
  const stack = new AsyncDisposableStack();
  let browser: Browser;
  let shop: ReturnType<typeof startShop>;

  beforeAll(async () => {
    shop = stack.use(startShop());
    browser = stack.use(await startChromium());
    await eventually(() => assertEquals(shop.cache.stats().coherent, true));
  });
  afterAll(() => stack.disposeAsync());

  const read = async (id: number) => await (await fetch(`${shop.url}/orders/${id}`)).json();

  it("shows what its cache tells, and nothing of a service's", async () => {
    await using shown = await openDashboard(browser, `${shop.url}/_cache`);
    const { page, complaints, origins } = shown;
    await becomesLive(page);
    for (let round = 0; round < 3; round++) {
      for (let id = 1; id <= 20; id++) await read(id);
    }
    await eventually(async () => {
      const { memory, redis, coalesced, loads } = shop.cache.stats();
      const saved = memory.hits + redis.hits + coalesced;
      assertEquals(
        (await tile(page, "Queries saved")).note,
        `${saved} saved, ${loads} made`,
      );
      assertStringIncludes((await tile(page, "Memory tier")).note, `${memory.entries} entries`);
    });
    assertEquals(await page.getByRole("figure").count(), 3);
    assertEquals(await page.getByText("Relay backlog").count(), 0);
    assertEquals(await page.getByText("Last invalidations").isVisible(), false);
    assertEquals(
      /\busers?\b|five steps|OpenAPI/i.exec(await page.innerText("body"))?.[0],
      undefined,
    );
    assertEquals([...origins], [shop.url]);
    assertEquals(complaints, []);
  });

  it("looks at a key, deletes it, and clears the cache, below its path", async () => {
    await read(7);
    await using shown = await openDashboard(browser, `${shop.url}/_cache`);
    const { page, complaints } = shown;
    const requested: string[] = [];
    page.on("request", (request) => void requested.push(new URL(request.url()).pathname));
    await becomesLive(page);
    await page.getByLabel("Key", { exact: true }).fill("order:7");
    await page.getByRole("button", { name: "Look" }).click();
    await page.getByRole("button", { name: "Delete order:7 from the cache" }).click();
    await page.getByText("Not cached.").waitFor();
    assertEquals(await shop.cache.get("order:7"), undefined);
    await read(8);
    await page.getByRole("button", { name: "Clear all" }).click();
    await page.getByRole("button", { name: "Clear the cache" }).click();
    await page.getByText("Cache cleared.").waitFor();
    assertEquals(await shop.cache.get("order:8"), undefined);
    assertEquals(requested.filter((path) => !path.startsWith("/_cache/")), []);
    assertEquals(complaints, []);
  });

  it("asks for the token of its guard, and shows what the program notes", async () => {
    await using shown = await openDashboard(browser, `${shop.url}/admin/cache`);
    const { page, complaints } = shown;
    await page.getByLabel("A token is wanted here").fill(TOKEN);
    await page.getByRole("button", { name: "Connect" }).click();
    await becomesLive(page);
    for (let id = 1; id <= 20; id++) await read(id);
    shop.invalidations.note("sign-out", { keys: ["order:9"] });
    const row = page.locator("#invalidations tr").filter({ hasText: "sign-out" });
    await row.filter({ hasText: "order:9" }).waitFor();
    const latency = page.getByRole("figure", { name: "Time to answer a read" });
    await latency.waitFor();
    await eventually(async () => {
      await read(9); // what is shown is of the last second
      assertMatch(await latency.innerText(), /memory p50\s*[\d.]+/);
    });
    assertEquals(complaints.filter((text) => !text.includes("status of 401")), []);
  });

  for (const colorScheme of ["light", "dark"] as const) {
    it(`passes axe's rules, ${colorScheme} and on a phone`, async () => {
      const phone = { viewport: { width: 320, height: 640 }, isMobile: true, hasTouch: true };
      await using shown = await openDashboard(browser, `${shop.url}/_cache`, {
        colorScheme,
        ...(colorScheme === "dark" ? phone : {}),
      });
      await becomesLive(shown.page);
      await assertFits(shown.page);
      assertEquals(await violations(shown.page), []);
    });
  }
});
