import axe from "axe-core";
import type { Browser, BrowserContextOptions, Page } from "playwright-core";
import { assertEquals } from "@std/assert";
import { startChromium } from "../../tools/servers/chromium.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { type Service, startService } from "../../tools/servers/service.ts";

/** Long before a suite's patience ends: nothing that a page waits for takes a second. */
const TIMEOUT_MS = 10_000;

/** A service with users, and a browser to look at it. */
export interface Stage extends AsyncDisposable {
  readonly service: Service;
  readonly browser: Browser;
  /** What the service reads and writes. */
  readonly databaseUrl: string;
}

/** Starts both, the service in memory-only mode unless `env` says otherwise. */
export async function startStage(
  usersCount: number,
  env: Readonly<Record<string, string>> = {},
): Promise<Stage> {
  await using stack = new AsyncDisposableStack();
  const database = stack.use(await createSeededDatabase(usersCount));
  const service = stack.use(
    await startService({ env: { REDIS_URL: "memory:", DATABASE_URL: database.url, ...env } }),
  );
  const browser = stack.use(await startChromium());
  const started = stack.move();
  return {
    service,
    browser,
    databaseUrl: database.url,
    [Symbol.asyncDispose]: () => started.disposeAsync(),
  };
}

/** A page with the dashboard on it. */
export interface DashboardPage extends AsyncDisposable {
  readonly page: Page;
  /** What the browser complained of, policies included, and the errors of scripts. */
  readonly complaints: readonly string[];
  /** The addresses that were asked for anything. */
  readonly origins: ReadonlySet<string>;
}

/** Opens the dashboard in a window of its own, with nothing in it from before. */
export async function openDashboard(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<DashboardPage> {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 900 },
    locale: "en-GB",
    ...options,
  });
  context.setDefaultTimeout(TIMEOUT_MS);
  const page = await context.newPage();
  const complaints: string[] = [];
  const origins = new Set<string>();
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") {
      complaints.push(message.text());
    }
  });
  page.on("pageerror", (error) => void complaints.push(String(error)));
  page.on("request", (request) => void origins.add(new URL(request.url()).origin));
  page.on("dialog", (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.goto(url);
  return {
    page,
    complaints,
    origins,
    async [Symbol.asyncDispose]() {
      await context.close();
    },
  };
}

/** Waits until the page shows samples. */
export async function becomesLive(page: Page): Promise<void> {
  await page.getByRole("status").filter({ hasText: /^Live$/ }).waitFor();
}

/** The value and the note of a tile, by its name. */
export async function tile(page: Page, name: string): Promise<{ value: string; note: string }> {
  const box = page.locator("#tiles > div").filter({ has: page.locator("dt", { hasText: name }) });
  const [value = "", note = ""] = await box.locator("dd").allTextContents();
  return { value, note };
}

/** The name of what has the focus, as a screen reader would say it. */
export async function focused(page: Page): Promise<string> {
  return await page.evaluate(`(() => {
    const at = document.activeElement;
    const label = at.labels?.[0]?.textContent ?? at.getAttribute("aria-label") ?? at.textContent;
    return at.tagName.toLowerCase() + " " + label.trim().replace(/\\s+/g, " ");
  })()`);
}

/** Fails unless the page does without a scroll to the side. Charts are drawn anew a moment after a resize. */
export async function assertFits(page: Page): Promise<void> {
  await eventually(async () => {
    const [needed, given] = await page.evaluate<[number, number]>(
      "[document.documentElement.scrollWidth, innerWidth]",
    );
    assertEquals(needed <= given, true, `${needed} px in ${given} px`);
  }, { deadlineMs: 5_000 });
}

/** What axe finds wrong, with where. */
export async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  return await page.evaluate<string[]>(
    `axe.run({ resultTypes: ["violations"] }).then(({ violations }) =>
    violations.flatMap(({ id, nodes }) =>
      nodes.map(({ html, failureSummary }) => id + ": " + html + " " + failureSummary)))`,
  );
}
