import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Changes } from "../../server/repeats.ts";

describe("Changes", () => {
  it("reports 39 changes of a thing in a minute, says at the next that it is the last, and begins anew", () => {
    let nowMs = 0;
    const changes = new Changes({ monotonicNow: () => nowMs });
    const said = Array.from({ length: 42 }, () => changes.note("a"));
    assertEquals(said.filter((each) => each === "report").length, 39);
    assertEquals(said.slice(39), ["last", "suppress", "suppress"]);
    assertEquals(changes.note("b"), "report");
    nowMs = 60_000;
    assertEquals(changes.note("a"), "report");
  });

  it("remembers 200 things at most", () => {
    const changes = new Changes({ monotonicNow: () => 0 });
    for (let i = 0; i < 41; i++) changes.note("a");
    for (let i = 0; i < 199; i++) changes.note(`${i}`);
    assertEquals(changes.note("a"), "suppress");
    changes.note("one more");
    assertEquals(changes.note("a"), "report");
  });
});
