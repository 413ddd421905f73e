import { assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Horizon, LIMITS, problemsOf } from "../../changes/health.ts";

describe("Horizon", () => {
  it("counts from when the oldest open transaction was seen first", () => {
    const horizon = new Horizon();
    horizon.note("5:5:", 1_000);
    assertEquals(horizon.heldMs, 0);
    horizon.note("5:7:5", 2_000);
    horizon.note("5:9:5,8", 62_000);
    assertEquals([horizon.heldMs, horizon.heldBy], [60_000, "5"]);
    horizon.note("8:9:8", 63_000);
    assertEquals([horizon.heldMs, horizon.heldBy], [0, "8"]);
    horizon.note("9:9:", 90_000);
    assertEquals(horizon.heldMs, 0);
  });

  it("names a transaction as pg_stat_activity does, which leaves the epoch out", () => {
    const horizon = new Horizon();
    horizon.note(`${2n ** 32n + 7n}:${2n ** 32n + 9n}:${2n ** 32n + 7n}`, 0);
    assertEquals(horizon.heldBy, "7");
  });
});

describe("problemsOf()", () => {
  const healthy = { lagMs: 0, bytes: 0, heldMs: 0, heldBy: "0" };

  it("finds none up to the limits", () => {
    assertEquals(problemsOf({ ...LIMITS, heldBy: "7" }, LIMITS), []);
  });

  const cases: [Partial<typeof healthy>, problem: RegExp, remedy: RegExp][] = [
    [{ lagMs: LIMITS.lagMs + 1 }, /^Changes are waiting/, /Redis/],
    [{ bytes: LIMITS.bytes + 1 }, /^The outbox takes more than 1024 MiB$/, /DELETE FROM lookaside/],
    [{ heldMs: LIMITS.heldMs + 1, heldBy: "7" }, /^Transaction 7 /, /backend_xid = '7'.*PREPARED/],
  ];
  for (const [past, problem, remedy] of cases) {
    it(`tells of ${Object.keys(past)[0]} past it, and what to do`, () => {
      const [found, ...others] = problemsOf({ ...healthy, ...past }, LIMITS);
      assertMatch(found?.problem ?? "", problem);
      assertMatch(found?.remedy ?? "", remedy);
      assertEquals(others, []);
    });
  }
});
