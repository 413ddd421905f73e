import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { loadReport } from "../../../tools/load/report.ts";
import { type Outcome, samplesOf, type Timeline } from "../../../tools/load/timeline.ts";

const timeline: Timeline = {
  samples: [{ atS: 0.5, answered: 90, failed: 10, p50Ms: 2, p99Ms: 8 }],
  counted: [{ atS: 0, memory: 60, redis: 20, loads: 20 }],
};
const rows = [{ name: "Single query", unit: "ms", withCache: 0.5, withoutCache: 2 }];

describe("loadReport()", () => {
  const page = loadReport({
    conditions: "a machine & more </script>",
    rows,
    withCache: timeline,
    withoutCache: { ...timeline, samples: [] },
    fault: { begins: "Redis is killed", ends: "started again, empty,", fromS: 4, toS: 9 },
  });

  it("asks no other host for anything, and forbids it", () => {
    assertEquals(page.match(/\b(src|href)\s*=|@import|url\(/g), null);
    assertMatch(page, /default-src 'none'/);
  });

  it("says what was measured, and what happened in the middle of it", () => {
    assert(page.includes("Redis is killed at 4 s and started again, empty, at 9 s."));
    assert(page.includes("a machine &amp; more &lt;/script&gt;"));
    assert(page.includes("4.0×"));
    assert(page.includes("2.0 ms"));
    assert(page.includes("10.0 %"));
    assert(page.includes("nothing measured without the cache"));
  });

  it("holds the figures for its charts, and nothing in them ends the element", () => {
    const held = /<script type="application\/json" id="data">(.*?)<\/script>/.exec(page)?.[1];
    assertEquals(JSON.parse(held ?? "").withCache, timeline);
    assertEquals(JSON.parse(held ?? "").conditions, "a machine & more </script>");
  });
});

describe("samplesOf()", () => {
  const outcome = (atMs: number, tookMs: number, good = true): Outcome => ({ atMs, tookMs, good });

  it("gathers outcomes by the second, and leaves no second out", () => {
    const outcomes = [outcome(10, 1), outcome(999, 3), outcome(2_000, 7), outcome(2_500, 9, false)];
    assertEquals(samplesOf(outcomes, 3), [
      { atS: 0.5, answered: 2, failed: 0, p50Ms: 3, p99Ms: 3 },
      { atS: 1.5, answered: 0, failed: 0 },
      { atS: 2.5, answered: 1, failed: 1, p50Ms: 7, p99Ms: 7 },
    ]);
  });

  it("takes no time of a failure for a time to answer", () => {
    const outcomes = [outcome(1, 5), outcome(2, 900, false)];
    assertEquals(samplesOf(outcomes, 1)[0]?.p99Ms, 5);
  });
});
