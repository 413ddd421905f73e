import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import type { Browser, Page } from "playwright-core";
import { eventually } from "../../tools/servers/eventually.ts";
import type { Service } from "../../tools/servers/service.ts";
import {
  assertFits,
  becomesLive,
  focused,
  openDashboard,
  startStage,
  violations,
} from "./_dashboard_page.ts";

const phone = { viewport: { width: 320, height: 640 }, isMobile: true, hasTouch: true };

describe("the pages of the service", () => {
  const stack = new AsyncDisposableStack();
  let browser: Browser;
  let service: Service;

  beforeAll(async () => {
    ({ service, browser } = stack.use(await startStage(50)));
    for (let i = 0; i < 100; i++) await (await service.fetch("/users/1")).body?.cancel();
  });
  afterAll(() => stack.disposeAsync());

  /** The dashboard with all that it can show. */
  async function fill(page: Page): Promise<void> {
    await becomesLive(page);
    await page.getByRole("button", { name: "Run the five steps" }).click();
    await page.getByText("Done. The bio is as it was.").waitFor();
    await (await service.fetch("/users/1")).body?.cancel(); // invalidated by the last step
    await page.getByLabel("Key", { exact: true }).fill("users:1");
    await page.getByRole("button", { name: "Look" }).click();
    await page.getByRole("button", { name: "Delete users:1 from the cache" }).waitFor();
    await page.locator("#popular button").first().waitFor();
  }

  /** Fails unless the colours of a full dashboard, of its dialog and of `/docs` are as they should be. */
  async function assertColours(page: Page, colorScheme: "light" | "dark"): Promise<void> {
    if (colorScheme === "light") assertGreater(await brightness(page), 200);
    else assertLess(await brightness(page), 60);
    assertEquals(await violations(page), []);
    await page.getByRole("button", { name: "Clear all" }).click();
    assertEquals(await violations(page), []);
    await page.goto(`${service.url}/docs`);
    assertEquals(await violations(page), []);
  }

  it("are dark where that is wanted, and pass axe's rules so", async () => {
    await using dashboard = await openDashboard(browser, service.url, { colorScheme: "dark" });
    await fill(dashboard.page);
    await assertColours(dashboard.page, "dark");
  });

  // One after the other, on the same page: filling it is most of the work.
  describe("on a desktop", () => {
    let page: Page;
    beforeAll(async () => {
      ({ page } = stack.use(await openDashboard(browser, service.url, { colorScheme: "light" })));
      await fill(page);
    });

    it("name their parts for a screen reader", async () => {
      for (const name of ["Now", "Try it", "The last five minutes", "Key inspector"]) {
        assertEquals([name, await page.getByRole("region", { name }).count()], [name, 1]);
      }
      for (
        const name of [
          "Reads a second, by source",
          "Hit rate of each tier",
          "Time to answer a read",
          "Database queries a second",
        ]
      ) {
        const figure = page.getByRole("figure", { name });
        assertEquals([name, await figure.count()], [name, 1]);
        assertGreater(await figure.getByRole("listitem").count(), 1); // the figures beside the picture
      }
      assertEquals(await page.getByRole("list").count() >= 6, true);
      await page.getByRole("table").getByRole("columnheader", { name: "Cause" }).waitFor();
    });

    it("are light where that is wanted, and pass axe's rules so", async () => {
      await assertColours(page, "light");
    });

    it("are worked by the keyboard alone, in the order in which they are read", async () => {
      await page.goto(service.url);
      await becomesLive(page);
      await page.locator("#popular button").first().waitFor();
      const order: string[] = [];
      for (let i = 0; i < 9; i++) {
        await page.keyboard.press("Tab");
        order.push(await focused(page));
      }
      assertEquals(order, [
        "a Skip to the figures",
        "a API",
        "a OpenAPI",
        "input User",
        "button Run the five steps",
        "button Clear all …",
        "input Key",
        "button Look",
        "button users:1",
      ]);
      await page.keyboard.press("Enter");
      await page.getByRole("button", { name: "Delete users:1 from the cache" }).waitFor();
      assertEquals(await focused(page), "button users:1");
      for (let i = 0; i < 4; i++) await page.keyboard.press("Shift+Tab");
      assertEquals(await focused(page), "button Clear all …");
      await page.keyboard.press("Enter");
      assertEquals(await focused(page), "button Keep it");
      await page.keyboard.press("Escape");
      assertEquals(await focused(page), "button Clear all …");
    });
  });

  describe("on a phone", () => {
    let page: Page;
    beforeAll(async () => {
      ({ page } = stack.use(await openDashboard(browser, service.url, phone)));
      await fill(page);
    });

    it("bring what was asked for into view", async () => {
      // Waits, because the page is scrolled after what it shows is there. Not by `waitForFunction`, whose later
      // looks evaluate their text inside the page, where the content policy forbids it.
      const comesIntoView = (selector: string) =>
        eventually(async () =>
          assert(
            await page.evaluate(`(() => {
              const { top, bottom } = document.querySelector("${selector}").getBoundingClientRect();
              // Pages are scrolled by whole pixels, also when something above changes its height.
              return top > -5 && bottom < innerHeight + 5;
            })()`),
          )
        );
      await page.evaluate("scrollTo(0, 0)");
      await page.getByRole("button", { name: "Run the five steps" }).click();
      await page.getByText("Done. The bio is as it was.").waitFor();
      await comesIntoView("#steps li:last-child");
      await comesIntoView("#try-outcome");
      await page.evaluate("document.querySelector('#inspected').replaceChildren()");
      await page.locator("#popular button").last().click();
      await page.locator("#inspected .inspected-head").waitFor();
      await comesIntoView("#inspected .inspected-head");
    });

    it("fit, and pass axe's rules", async () => {
      await assertFits(page);
      assertEquals(await violations(page), []);
      await page.goto(`${service.url}/docs`);
      await assertFits(page);
      assertEquals(await violations(page), []);
    });
  });
});

/** Of the page's background, 0 to 255. */
async function brightness(page: Page): Promise<number> {
  const colour = await page.evaluate<string>("getComputedStyle(document.body).backgroundColor");
  const parts = [...colour.matchAll(/\d+/g)].map(Number);
  return Math.max(...parts.slice(0, 3));
}
