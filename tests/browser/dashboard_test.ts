import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { connect } from "@db/driver";
import type { Browser } from "playwright-core";
import { eventually } from "../../tools/servers/eventually.ts";
import { startRedis } from "../../tools/servers/redis_server.ts";
import { cacheInUse, type Service } from "../../tools/servers/service.ts";
import { requiredEnv } from "../support/test_database.ts";
import { becomesLive, openDashboard, startStage, tile } from "./_dashboard_page.ts";

const MARKUP = `<img src=x onerror="alert(1)">`;

describe("the dashboard", () => {
  const stack = new AsyncDisposableStack();
  let browser: Browser;
  let service: Service;
  let databaseUrl: string;

  beforeAll(async () => {
    const env = {
      REDIS_URL: requiredEnv("REDIS_URL"),
      CACHE_PREFIX: `t${crypto.randomUUID().slice(0, 8)}`,
    };
    ({ service, browser, databaseUrl } = stack.use(await startStage(50, env)));
  });
  afterAll(() => stack.disposeAsync());

  const read = async (path: string) => await (await service.fetch(path)).json();

  it("says that there is nothing to see before anything was read, and asks nobody but the service", async () => {
    await using dashboard = await openDashboard(browser, service.url);
    const { page } = dashboard;
    await becomesLive(page);
    await page.getByText("No reads since this page was opened.").waitFor();
    const reads = await tile(page, "Reads a second");
    assertMatch(reads.value, /^[–0]$/); // the rate is known from the second figures on
    assertEquals(reads.note, "0 since start");
    await page.getByText("No answers since this page was opened.").waitFor();
    assertEquals((await tile(page, "Queries saved")).value, "–");
    assertEquals([...dashboard.origins], [service.url]);
    assertEquals(dashboard.complaints, []);
  });

  it("runs the five steps, puts the bio back, and says so when the user is not there", async () => {
    await cacheInUse(service, "/users/50");
    const before = (await read("/users/7")).data;
    await using dashboard = await openDashboard(browser, service.url);
    const { page } = dashboard;
    await becomesLive(page);
    await page.getByLabel("User").fill("7");
    await page.getByRole("button", { name: "Run the five steps" }).click();
    await page.getByText("Done. The bio is as it was.").waitFor();
    const badges = await page.locator("#steps .badge").allTextContents();
    const named = badges.map((badge) => /^(memory|Redis)$/.test(badge) ? "cache" : badge);
    assertEquals(named, ["database", "cache", "written", "database", "cache"]);
    for (const took of await page.locator("#steps .took").allTextContents()) {
      assertMatch(took, /^\d+\.\d ms( round trip)?$/);
    }
    // The answer to a write tells no time of the service's own.
    assertEquals(await page.getByText("round trip").count(), 1);
    const notes = await page.locator("#steps .note").allTextContents();
    assertEquals([notes[3], notes[4]?.startsWith("the new bio, cached")], ["the new bio", true]);
    assertEquals((await read("/users/7")).data, before);
    assertEquals(dashboard.complaints, []);

    await page.getByLabel("User").fill("9999");
    await page.getByRole("button", { name: "Run the five steps" }).click();
    await page.getByText("Stopped: User not found").waitFor();
    assertEquals(await page.getByRole("button", { name: "Run the five steps" }).isEnabled(), true);
  });

  it("shows the figures of /cache/stats", async () => {
    await using dashboard = await openDashboard(browser, service.url);
    const { page } = dashboard;
    await becomesLive(page);
    for (let round = 0; round < 3; round++) {
      for (let id = 1; id <= 20; id++) await read(`/users/${id}`);
    }
    await eventually(async () => {
      const { memory, redis, loads, coalesced, changes, invalidations, coherent, breaker } =
        await read("/cache/stats");
      const saved = memory.hits + redis.hits + coalesced;
      const { note: since } = await tile(page, "Reads a second");
      assertEquals(since, `${saved + loads} since start`);
      const hits = await tile(page, "Found in memory");
      const rates = [memory, redis].map(({ hitRate }) => Math.floor(100 * hitRate));
      assertEquals(hits.value.replace("\u00a0", " "), `${rates[0]} %`);
      const asked = redis.hits + redis.misses;
      assertEquals(hits.note.replace("\u00a0", " "), `then in Redis: ${rates[1]} % of ${asked}`);
      assertEquals((await tile(page, "Queries saved")).note, `${saved} saved, ${loads} made`);
      const held = await tile(page, "Memory tier");
      assertEquals(held.value, coherent ? "coherent" : "bypassed");
      assertStringIncludes(held.note, `${memory.entries} entries`);
      assertEquals((await tile(page, "Circuit breaker")).value, breaker);
      const relay = await tile(page, "Relay backlog");
      assertEquals(relay.value, String(changes.backlog));
      assertStringIncludes(relay.note, `${invalidations} keys invalidated`);
    });
    assertEquals(await page.getByText("No reads since this page was opened").isVisible(), false);
    assertEquals(await page.locator("canvas").count(), 4);
    assertEquals(dashboard.complaints, []);
  });

  it("takes a hit rate of 0 % for a figure", async () => {
    await using dashboard = await openDashboard(browser, service.url);
    const { page } = dashboard;
    await becomesLive(page);
    const empty = page.getByText("No tier was asked since this page was opened.");
    await empty.waitFor();
    for (let id = 21; id <= 30; id++) assertEquals((await read(`/users/${id}`)).source, "database");
    await empty.waitFor({ state: "hidden" });
  });

  it("shows what holds a key, and at once that nothing does when it is deleted", async () => {
    for (let i = 0; i < 3; i++) await read("/users/3");
    await using dashboard = await openDashboard(browser, service.url);
    const { page } = dashboard;
    await becomesLive(page);
    await page.getByLabel("Key", { exact: true }).fill("users:3");
    await page.getByRole("button", { name: "Look" }).click();
    const shown = page.locator("#inspected");
    await shown.getByText("Memory").waitFor();
    const text = await shown.innerText();
    for (const name of ["Age", "Fresh for", "Size", "Tags", "users", "Answers reads"]) {
      assertStringIncludes(text, name);
    }
    const { redis } = await read("/cache/entries/users:3");
    assertStringIncludes(text, `${redis.bytes}\u00a0B`);
    await page.getByRole("button", { name: "Delete users:3 from the cache" }).click();
    await shown.getByText("Not cached.").waitFor();
    const { memory: left, redis: stored } = await read("/cache/entries/users:3");
    assertEquals([left, stored], [null, null]);
    const newest = page.locator("#invalidations tr").filter({ hasText: "Admin" }).first();
    await newest.filter({ hasText: "users:3" }).waitFor();
    assertEquals((await read("/users/3")).source, "database");
  });

  it("shows what was invalidated, and why", async () => {
    await using dashboard = await openDashboard(browser, service.url);
    const { page } = dashboard;
    await becomesLive(page);
    const body = JSON.stringify({ bio: "New" });
    const headers = { "content-type": "application/json" };
    await (await service.fetch("/users/41", { method: "PATCH", body, headers })).body?.cancel();
    const rows = page.locator("#invalidations tr").filter({ hasText: "users:41" });
    await rows.filter({ hasText: "API write" }).waitFor();
    await using database = connect({ url: databaseUrl, poolMax: 1 });
    await database.query("UPDATE users SET bio = 'Newer' WHERE id = 42");
    await page.locator("#invalidations tr").filter({ hasText: "users:42" })
      .filter({ hasText: "Change feed" }).waitFor();
    assertMatch(await rows.first().innerText(), /^\d\d:\d\d:\d\d\s/);
  });

  it("clears everything once that was confirmed, and nothing before", async () => {
    for (let i = 0; i < 2; i++) await read("/users/4");
    await using dashboard = await openDashboard(browser, service.url);
    const { page } = dashboard;
    await becomesLive(page);
    await page.getByRole("button", { name: "Clear all" }).click();
    await page.getByRole("dialog", { name: "Clear the whole cache?" }).waitFor();
    await page.getByRole("button", { name: "Keep it" }).click();
    assertEquals((await read("/users/4")).source, "cache");
    await page.getByRole("button", { name: "Clear all" }).click();
    await page.getByRole("button", { name: "Clear the cache" }).click();
    await page.getByText("Cache cleared.").waitFor();
    assertEquals((await read("/users/4")).source, "database");
    await page.locator("#invalidations tr").filter({ hasText: "everything" }).first().waitFor();
  });

  it("shows names of keys as they are, whatever they are", async () => {
    await using dashboard = await openDashboard(browser, service.url);
    const { page } = dashboard;
    await becomesLive(page);
    await page.getByLabel("Key", { exact: true }).fill(MARKUP);
    await page.getByRole("button", { name: "Look" }).click();
    await page.locator("#inspected code").filter({ hasText: MARKUP }).waitFor();
    const path = `/cache/entries/${encodeURIComponent(MARKUP)}`;
    await (await service.fetch(path, { method: "DELETE" })).body?.cancel();
    await page.locator("#invalidations code").filter({ hasText: MARKUP }).first().waitFor();
    assertEquals(await page.locator("img").count(), 0);
    await page.getByLabel("Key", { exact: true }).fill("{a}");
    await page.getByRole("button", { name: "Look" }).click();
    await page.getByText("Expected a key without braces and control characters").waitFor();
    const own = dashboard.complaints.filter((text) => !text.includes("status of 400"));
    assertEquals(own, []);
  });

  it("says why it cannot show anything where too many look on, and goes on when one has left", async () => {
    const looking = new AbortController();
    const answers: Response[] = [];
    // Those of the tests before are let go when the service next writes to them.
    await eventually(async () => {
      const answer = await service.fetch("/cache/live", { signal: looking.signal });
      if (answer.ok) answers.push(answer);
      else await answer.body?.cancel();
      assertEquals(answers.length, 32);
    });
    await using dashboard = await openDashboard(browser, service.url);
    const { page } = dashboard;
    await page.getByText("Disconnected (Too many are looking on): trying again.").waitFor();
    looking.abort();
    await Promise.allSettled(answers.map(({ body }) => body?.cancel()));
    await becomesLive(page);
  });
});

describe(
  "the dashboard of a service without its Redis",
  () => {
    it("says that the cache cannot be used, and blames nobody else", async () => {
      await using redis = await startRedis();
      await using stage = await startStage(5, { REDIS_URL: redis.url, CACHE_FALLBACK: "off" });
      const { service, browser } = stage;
      await using dashboard = await openDashboard(browser, service.url);
      const { page } = dashboard;
      await becomesLive(page);
      await redis.kill();
      await page.getByText("Not known while Redis is away.").waitFor();
      await page.getByRole("button", { name: "Run the five steps" }).click();
      await page.getByText("Done. The bio is as it was.").waitFor();
      const notes = await page.locator("#steps .note").allTextContents();
      assertEquals([notes[1], notes[4]], [
        "asked the database again: the cache cannot be used now",
        "the new bio, from the database: the cache cannot be used now",
      ]);
      await page.getByLabel("Key", { exact: true }).fill("users:1");
      await page.getByRole("button", { name: "Look" }).click();
      await page.getByText("Not in memory, and Redis cannot be asked now.").waitFor();
    });
  },
);

describe(
  "the dashboard of a service that goes away",
  () => {
    it("says that it is disconnected and of when its figures are, and goes on when it is back", async () => {
      await using stage = await startStage(5);
      const { service, browser } = stage;
      await using dashboard = await openDashboard(browser, service.url);
      const { page } = dashboard;
      await becomesLive(page);
      const startedAtMs = performance.now();
      assertEquals(await service.stop(), 0);
      assert(performance.now() - startedAtMs < 5_000, "the stream held the service up");
      await page.getByText(/^Disconnected: trying again\. What is shown is of \d\d:\d\d:\d\d\.$/)
        .waitFor();
      assertEquals(await page.locator("main[data-stale]").count(), 1);
      await page.getByLabel("Key", { exact: true }).fill("users:1");
      await page.getByRole("button", { name: "Look" }).click();
      await page.getByText("The service cannot be reached").waitFor();
      await service.start();
      await becomesLive(page);
      assertEquals(await page.locator("main[data-stale]").count(), 0);
    });
  },
);
