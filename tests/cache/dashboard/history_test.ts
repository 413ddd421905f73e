import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { History } from "../../../cache/dashboard/web/history.js";

const AT_MS = 1_700_000_000_000;

/** A sample `second` seconds in, with these counts. */
function sampleOf(
  second: number,
  { hits = 0, misses = 0, redisHits = 0, loads = 0, coalesced = 0, count = 0 } = {},
) {
  const window = { count, p50Ms: 1, p99Ms: 2 };
  return {
    atMs: AT_MS + second * 1000,
    cache: {
      memory: { hits, misses },
      redis: { hits: redisHits, misses: loads },
      loads,
      coalesced,
    },
    latencies: { memory: window, redis: window, database: window },
  };
}

describe("History", () => {
  it("tells rates a second, whatever the time between two samples", () => {
    const history = new History();
    history.add(sampleOf(0));
    history.add(sampleOf(2, { hits: 60, misses: 20, redisHits: 12, loads: 8, coalesced: 4 }));
    const { columns } = history;
    assertEquals(
      [columns.memory, columns.redis, columns.database, columns.shared, columns.saved],
      [[30], [6], [4], [2], [38]],
    );
    assertEquals([columns.memoryShare, columns.redisShare], [[75], [60]]);
  });

  it("has no share and no latency where nobody asked", () => {
    const history = new History();
    history.add(sampleOf(0));
    history.add(sampleOf(1));
    assertEquals([history.columns.memoryShare, history.columns.memoryP99], [[null], [null]]);
    history.add(sampleOf(2, { count: 3 }));
    assertEquals(history.columns.memoryP99, [null, 2]);
  });

  it("leaves a gap where samples are missing or the service was started anew", () => {
    const history = new History();
    history.add(sampleOf(0, { hits: 10 }));
    history.add(sampleOf(1, { hits: 20 }));
    history.add(sampleOf(60, { hits: 30 }));
    history.add(sampleOf(61, { hits: 5 }));
    history.add(sampleOf(62, { hits: 6 }));
    assertEquals(history.columns.memory, [10, null, null, 1]);
  });

  it("keeps five minutes", () => {
    const history = new History();
    for (let second = 0; second < 1_000; second++) history.add(sampleOf(second));
    assertEquals([history.columns.atS.length, history.columns.memory.length], [300, 300]);
    assertEquals(history.columns.atS.at(-1), AT_MS / 1000 + 999);
  });
});
