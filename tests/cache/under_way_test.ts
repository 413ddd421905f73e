import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { UnderWayByKey } from "../../cache/under_way.ts";

describe("UnderWayByKey", () => {
  it("keeps what is running over any number of additions and deletions", () => {
    const running = new UnderWayByKey<number>();
    const expected = new Map<string, number>();
    for (let i = 0; i < 10_000; i++) {
      const key = `k${i * 7 % 13}`;
      if (i % 3 === 0) running.delete(key);
      else running.set(key, i);
      if (i % 3 === 0) expected.delete(key);
      else expected.set(key, i);
      assertEquals(running.get(key), expected.get(key));
      assertEquals(running.size, expected.size);
    }
    for (let at = 0; at < 13; at++) assertEquals(running.get(`k${at}`), expected.get(`k${at}`));
    running.clear();
    assertEquals([running.size, running.get("k1")], [0, undefined]);
  });
});
