import { assertAlmostEquals, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { begunWithin, figuresOf, hitRatio, isTolerated, recoveryMs } from "./measure.ts";
import { trendOf } from "./soak.ts";
import type { Sample } from "./traffic.ts";

function sample(given: Partial<Sample> & { readonly startMs: number }): Sample {
  return {
    at: 0,
    kind: "read",
    endMs: given.startMs + 1,
    status: 200,
    path: "memory",
    retryAfter: false,
    ...given,
  };
}

/** One sample in each 10 ms. */
function steady(fromMs: number, toMs: number, given: Partial<Sample> = {}): Sample[] {
  return Array.from(
    { length: (toMs - fromMs) / 10 },
    (_, i) => sample({ startMs: fromMs + 10 * i, ...given }),
  );
}

describe("figuresOf()", () => {
  it("tells failures apart and finds the slowest and the longest pause", () => {
    const figures = figuresOf([
      sample({ startMs: 0, endMs: 2 }),
      sample({ startMs: 10, endMs: 510 }),
      sample({ startMs: 20, status: 503, retryAfter: true }),
      sample({ startMs: 30, status: 500 }),
      sample({ startMs: 40, status: 0 }),
    ]);
    assertEquals(figures, {
      requests: 5,
      serverErrors: 2,
      refused: 1,
      unanswered: 1,
      p50Ms: 1,
      p99Ms: 500,
      slowestMs: 500,
      pauseMs: 508,
    });
    assertEquals(figuresOf([]).p99Ms, 0);
  });
});

describe("isTolerated()", () => {
  it("lets pass what a fault may cause and nothing else", () => {
    const refused = sample({ startMs: 0, status: 503, retryAfter: true });
    const dead = sample({ startMs: 0, status: 0 });
    assertEquals([isTolerated(refused, "503"), isTolerated(refused, "nothing")], [true, false]);
    assertEquals(isTolerated({ ...refused, retryAfter: false }, "503"), false);
    assertEquals(isTolerated({ ...refused, status: 500 }, "503"), false);
    assertEquals([isTolerated(dead, "first instance"), isTolerated(dead, "503")], [true, false]);
    assertEquals(isTolerated({ ...dead, at: 1 }, "first instance"), false);
  });
});

describe("recoveryMs()", () => {
  const usual = { hits: 1 };

  it("is nothing where all is well at once", () => {
    assertEquals(recoveryMs(steady(1_000, 2_000), 1_000, usual), 0);
  });

  it("ends with the last time in which a request failed, hits were rare or nobody was answered", () => {
    const failed = steady(1_300, 1_320, { status: 503 });
    const cold = steady(1_300, 1_400, { path: "database" });
    const rest = [...steady(1_000, 1_300), ...steady(1_400, 2_000)];
    assertEquals(recoveryMs([...rest, ...failed], 1_000, usual), 400);
    assertEquals(recoveryMs([...rest, ...cold], 1_000, usual), 400);
    assertEquals(recoveryMs(steady(1_400, 2_000), 1_000, usual), 400);
  });

  it("is not known before all was well for a while", () => {
    assertEquals(recoveryMs(steady(1_000, 1_400), 1_000, usual), undefined);
    assertEquals(recoveryMs([], 1_000, usual), undefined);
  });
});

describe("hitRatio() and begunWithin()", () => {
  it("count reads of users within a time", () => {
    const samples = [
      sample({ startMs: 0, path: "redis" }),
      sample({ startMs: 1, path: "page" }),
      sample({ startMs: 2, path: undefined, kind: "write" }),
      sample({ startMs: 3, path: "database" }),
      sample({ startMs: 4, path: "database" }),
    ];
    assertEquals(hitRatio(begunWithin(samples, 0, 4)), 0.5);
    assertEquals(hitRatio([]), 0);
  });
});

describe("trendOf()", () => {
  const sizes = (rssBytes: (i: number) => number) =>
    Array.from({ length: 30 }, (_, i) => ({
      atMs: i * 60_000,
      rssBytes: rssBytes(i),
      liveHeapBytes: 1,
      files: 20,
    }));

  it("takes noise and one outlier for flat, and steady growth not", () => {
    const noisy = trendOf("rssBytes", sizes((i) => 100 + (i % 3) + (i === 20 ? 500 : 0)));
    assertEquals(noisy.flat, true);
    const leaking = trendOf("rssBytes", sizes((i) => 100 + i + (i % 3)));
    assertEquals(leaking.flat, false);
    assertAlmostEquals(leaking.perHour, 60, 2);
  });

  it("does not let files grow by their share", () => {
    const open = trendOf("files", sizes(() => 1).map((size, i) => ({ ...size, files: 100 + i })));
    assertEquals([open.growth, open.flat], [29, false]);
  });
});
