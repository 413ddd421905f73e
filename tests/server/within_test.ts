import { assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { doneWithin, within } from "../../server/within.ts";

describe("within()", () => {
  it("answers what the work does, or that it is late, and leaves no timer", async () => {
    const never = new Promise<number>(() => {});
    assertEquals(await within(1_000, Promise.resolve(1), "late"), 1);
    assertEquals(await within(1, never, "late"), "late");
    assertEquals(await doneWithin(1_000, Promise.resolve()), true);
    assertEquals(await doneWithin(1, never), false);
  });

  it("passes a failure on", async () => {
    await assertRejects(() => doneWithin(1_000, Promise.reject(new Error("no"))), Error, "no");
  });
});
