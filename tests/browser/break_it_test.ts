import { assert, assertEquals, assertGreater } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import type { Browser, Page } from "playwright-core";
import { startChromium } from "../../tools/servers/chromium.ts";
import { type DevProcess, startDev } from "../../tools/servers/dev_process.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { createTestDatabase } from "../support/test_database.ts";
import { assertFits, openDashboard, violations } from "./_dashboard_page.ts";

const RECIPE = "The tutorials' recipe";
/** Starting Redis and a database, and being away for five seconds, on a busy machine. */
const PATIENCE_MS = 40_000;

describe("the panel of deno task dev", () => {
  const stack = new AsyncDisposableStack();
  let browser: Browser;
  let dev: DevProcess;

  beforeAll(async () => {
    const folder = await Deno.makeTempDir({ prefix: "lookaside_dev_" });
    stack.defer(() => Deno.remove(folder, { recursive: true }));
    const database = stack.use(await createTestDatabase());
    const env = { DATABASE_URL: database.url, REDIS_URL: "memory:" };
    dev = stack.use(await startDev(env, ["--data", folder]));
    browser = stack.use(await startChromium());
  });
  afterAll(() => stack.disposeAsync());

  it("shows the recipe stale and Lookaside never, whatever is done to them", async () => {
    await using dashboard = await openDashboard(browser, `http://127.0.0.1:${dev.port}/`);
    const { page } = dashboard;
    page.setDefaultTimeout(PATIENCE_MS);
    await page.getByRole("heading", { name: "Break it" }).waitFor();
    assertEquals(await refusalOf(page, "UPDATE by psql"), "Start the load first");
    await press(page, "Start the load", /^Both caches serve the same reads/);
    await eventually(async () => assertGreater(await figure(page, "Lookaside", "reads"), 40));

    await press(page, "UPDATE by psql", /^psql updated every row/);
    await eventually(async () => assertGreater(await figure(page, RECIPE, "stale"), 0));
    await press(page, "Kill the feed", /^Killed 1 of Lookaside's connections/);
    await press(page, "Restart Redis from an old file", /^Redis was killed and restarted/);
    await press(page, "Stop Redis for 5 s", /^Redis is back/);
    await eventually(async () => assertEquals(await refusalOf(page, "Stop the load"), ""));
    const [reads, queries] = [
      await figure(page, "Lookaside", "reads"),
      await figure(page, "Lookaside", "queries"),
    ];
    assertGreater(reads, 200);
    assertGreater(queries, 0);
    assertGreater(await figure(page, RECIPE, "queries"), queries);
    assertEquals(await figure(page, "Lookaside", "stale"), 0);
    await page.getByText("never stale").waitFor();
    assertEquals(await violations(page), []);
    await page.setViewportSize({ width: 320, height: 640 });
    await assertFits(page);
    await page.emulateMedia({ colorScheme: "dark" });
    assertEquals(await violations(page), []);

    await press(page, "Stop the load", /^Stopped$/);
    assertEquals(await figure(page, "Lookaside", "reads") >= reads, true, "the figures stay");
    assertEquals(dashboard.complaints, []);
  });

  it("takes no word from pages of others", async () => {
    const response = await fetch(`http://127.0.0.1:${dev.port}/break-it/start`, {
      method: "POST",
      headers: { origin: "https://elsewhere.example" },
    });
    await response.body?.cancel();
    assertEquals(response.status, 403);
  });
});

/** Presses a button, and waits until what it does is told as the last thing that happened. */
async function press(page: Page, name: string, told: RegExp): Promise<void> {
  await eventually(async () => assertEquals(await refusalOf(page, name), ""), {
    deadlineMs: PATIENCE_MS,
  });
  await page.getByRole("button", { name }).click();
  const last = page.getByRole("list", { name: "Log" }).locator("li").first();
  await last.filter({ hasText: new RegExp(told.source.replace(/^\^/, "\\d ")) }).waitFor();
}

/** Why a button cannot be pressed; nothing if it can. */
async function refusalOf(page: Page, name: string): Promise<string> {
  const button = page.getByRole("button", { name });
  await button.waitFor();
  const title = await button.getAttribute("title") ?? "";
  const isDisabled = await button.getAttribute("aria-disabled") === "true";
  assert(isDisabled || title === "", title);
  return isDisabled ? title || "a moment" : "";
}

/** A figure of a cache. */
async function figure(page: Page, cache: string, key: string): Promise<number> {
  const card = page.locator(".break-it-cache").filter({
    has: page.getByRole("heading", { name: cache }),
  });
  return Number((await card.locator(`[data-figure="${key}"]`).innerText()).replaceAll(",", ""));
}
