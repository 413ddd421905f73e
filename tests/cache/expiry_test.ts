import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import fc from "fast-check";
import { earlyRefreshGapMs, jitteredTtlMs } from "../../cache/expiry.ts";
import { seededRandom } from "../support/fake_runtime.ts";

const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

describe("jitteredTtlMs()", () => {
  it("stays within the ratio, and is at least 1 ms", () => {
    const ratio = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e9 }), ratio, chance, (ttlMs, ratio, random) => {
        const jittered = jitteredTtlMs(ttlMs, ratio, random);
        assert(jittered >= 1 && Number.isInteger(jittered));
        assert(
          jittered >= Math.floor(ttlMs * (1 - ratio)) && jittered <= Math.ceil(ttlMs * (1 + ratio)),
        );
      }),
    );
  });

  it("is the TTL itself without jitter, and on average with it", () => {
    const random = seededRandom(1);
    assertEquals(jitteredTtlMs(1_000, 0, random()), 1_000);
    let sum = 0;
    for (let i = 0; i < 10_000; i++) sum += jitteredTtlMs(1_000, 0.1, random());
    assertAlmostEquals(sum / 10_000, 1_000, 3);
  });
});

describe("earlyRefreshGapMs()", () => {
  it("is exponential with mean cost times beta", () => {
    const random = seededRandom(2);
    const gaps = Array.from({ length: 50_000 }, () => earlyRefreshGapMs(40, 2, random()));
    assertAlmostEquals(gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length, 80, 2);
    const above = gaps.filter((gap) => gap > 80).length / gaps.length;
    assertAlmostEquals(above, Math.exp(-1), 0.01);
  });

  it("is finite and not negative whatever is drawn", () => {
    fc.assert(fc.property(chance, (random) => {
      const gapMs = earlyRefreshGapMs(100, 1, random);
      assert(Number.isFinite(gapMs) && gapMs >= 0);
    }));
    assert(Number.isFinite(earlyRefreshGapMs(100, 1, 0)));
  });

  it("is 0 with beta 0 and for a load that cost nothing", () => {
    assertEquals(earlyRefreshGapMs(100, 0, 0.5), 0);
    assertAlmostEquals(earlyRefreshGapMs(0, 1, 0.5), 0);
  });
});
