import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { pathToFileURL } from "node:url";
import type { Browser, Page } from "playwright-core";
import { startChromium } from "../../tools/servers/chromium.ts";
import { loadReport } from "../../tools/load/report.ts";
import type { Timeline } from "../../tools/load/timeline.ts";
import { assertFits } from "./_dashboard_page.ts";

const phone = { viewport: { width: 375, height: 812 }, isMobile: true, hasTouch: true };

/** Three seconds of it: p50 of 1, 2 and 30 times `ms`. */
function timelineOf(ms: number, loads: number, failed = 0): Timeline {
  const samples = [1, 2, 30].map((times, at) => ({
    atS: at + 0.5,
    answered: 100,
    failed: at * failed,
    p50Ms: ms * times,
    p99Ms: 4 * ms * times,
  }));
  const counted = [0, 1, 2].map((atS) => ({ atS, memory: 60, redis: 20, loads: loads + atS }));
  return { samples, counted };
}

const html = loadReport({
  conditions: "on this machine",
  rows: [
    { name: "Single query", unit: "ms", withCache: 0.5, withoutCache: 2 },
    {
      name: "1000 queries, different keys (cold)",
      unit: "ms",
      withCache: 4321,
      withoutCache: 2100,
    },
    { name: "Database load at 1000 req/s", unit: "loads/s", withCache: 0, withoutCache: 1000.4 },
  ],
  withCache: timelineOf(1, 10, 1),
  withoutCache: timelineOf(5, 100),
});

describe("the load report in a browser", () => {
  let browser: Browser & AsyncDisposable;
  let path: string;

  beforeAll(async () => {
    path = await Deno.makeTempFile({ suffix: ".html" });
    await Deno.writeTextFile(path, html);
    browser = await startChromium();
  });
  afterAll(async () => {
    await browser[Symbol.asyncDispose]();
    await Deno.remove(path);
  });

  async function open(options: Parameters<Browser["newContext"]>[0] = {}): Promise<Page> {
    const page = await (await browser.newContext(options)).newPage();
    await page.goto(pathToFileURL(path).href);
    await page.locator("canvas").nth(3).waitFor();
    return page;
  }

  it("tells in its legends what the lines come to, until a moment is pointed at", async () => {
    const page = await open({ viewport: { width: 1280, height: 900 } });
    const legend = async (at: number) =>
      await page.locator(".u-legend").nth(at).locator(".u-value").allTextContents();
    const summed = ["any time (median)", "2.0 ms", "8.0 ms", "10.0 ms", "40.0 ms"];
    assertEquals(await legend(0), summed);
    assertEquals(await legend(1), ["any time (mean)", "1.0", "0"]);
    assertEquals(await legend(2), ["any time (mean)", "11.0", "101"]);
    await page.locator(".u-over").first().hover({ position: { x: 2, y: 90 } });
    assertEquals(await legend(0), ["0.5 s", "1.0 ms", "4.0 ms", "5.0 ms", "20.0 ms"]);
    await page.mouse.move(1, 1);
    assertEquals(await legend(0), summed);
  });

  it("marks each line of a chart as no other", async () => {
    const page = await open();
    const markers = await page.evaluate<string[]>(`
      [...document.querySelector(".u-legend").querySelectorAll(".u-series + .u-series .u-marker")]
        .map((each) => getComputedStyle(each))
        .map((style) => style.borderTopStyle + " " + style.borderTopColor)`);
    assertEquals(new Set(markers).size, 4, markers.join("; "));
    assertMatch(markers.join("; "), /solid .*dashed .*solid .*dashed /);
  });

  it("paints what is worse with the cache as bad, and says it", async () => {
    const page = await open();
    const colours = await page.evaluate<Record<string, string>>(`(() => {
      document.body.style.color = "var(--bad)";
      const of = (selector, name) => getComputedStyle(document.querySelector(selector))[name];
      return {
        bad: of("body", "color"),
        better: of("tbody tr:nth-child(1) .with i", "backgroundColor"),
        worse: of("tbody tr:nth-child(2) .with i", "backgroundColor"),
        worseRatio: of("tbody tr:nth-child(2) .ratio", "color"),
        betterFigure: of(".tile:nth-child(1) .figure", "color"),
        worseFigure: of(".tile:nth-child(4) .figure", "color"),
      };
    })()`);
    const { bad, better, betterFigure, ...worse } = colours;
    for (const colour of Object.values(worse)) assertEquals(colour, bad);
    for (const colour of [better, betterFigure]) assertNotEquals(colour, bad);
    assertEquals(await page.locator(".ratio").allTextContents(), [
      "4.0×",
      "0.49×, worse",
      "none left",
    ]);
  });

  it("fits a phone, with the whole table on it", async () => {
    const page = await open(phone);
    await assertFits(page);
    const [needed, given] = await page.evaluate<[number, number]>(`(() => {
      const table = document.querySelector("table");
      return [table.scrollWidth, table.parentElement.clientWidth];
    })()`);
    assertEquals(needed <= given, true, `${needed} px in ${given} px`);
  });
});
