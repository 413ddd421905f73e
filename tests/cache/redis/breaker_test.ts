import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Breaker, type BreakerState } from "../../../cache/redis/breaker.ts";
import { FakeRuntime } from "../../support/fake_runtime.ts";

type Step = "fail" | "succeed" | "admitted" | "refused" | "wait" | "wait too little";

/** Four failures in a row. */
const FOUR: readonly (readonly [Step, BreakerState])[] = Array(4).fill(["fail", "closed"]);

/** Each row: what happens, and the state afterwards. */
const table: Readonly<Record<string, readonly (readonly [Step, BreakerState])[]>> = {
  "opens at the fifth failure in a row": [
    ...FOUR,
    ["fail", "open"],
    ["refused", "open"],
  ],
  "forgets failures at a success": [
    ...FOUR,
    ["succeed", "closed"],
    ...FOUR,
    ["fail", "open"],
  ],
  "lets one probe through after the open time, and closes when it succeeds": [
    ...FOUR,
    ["fail", "open"],
    ["wait too little", "open"],
    ["refused", "open"],
    ["wait", "open"],
    ["admitted", "half-open"],
    ["refused", "half-open"],
    ["succeed", "closed"],
    ...FOUR,
    ["fail", "open"],
  ],
  "opens again, for the whole open time, when the probe fails": [
    ...FOUR,
    ["fail", "open"],
    ["wait", "open"],
    ["admitted", "half-open"],
    ["fail", "open"],
    ["wait too little", "open"],
    ["refused", "open"],
    ["wait", "open"],
    ["admitted", "half-open"],
  ],
  "stays open for a late answer to a call from before it opened": [
    ...FOUR,
    ["fail", "open"],
    ["succeed", "open"],
    ["fail", "open"],
    ["refused", "open"],
  ],
};

describe("Breaker", () => {
  for (const [name, rows] of Object.entries(table)) {
    it(name, async () => {
      const runtime = new FakeRuntime();
      const changes: BreakerState[] = [];
      const breaker = new Breaker(runtime.clock, (state) => void changes.push(state));
      const states: BreakerState[] = ["closed"];
      for (const [step, state] of rows) {
        if (step === "fail") breaker.fail();
        else if (step === "succeed") breaker.succeed();
        else if (step === "wait") await runtime.clock.advance(250);
        else if (step === "wait too little") await runtime.clock.advance(249);
        else assertEquals(breaker.admit(), step === "admitted", step);
        assertEquals(breaker.state, state, step);
        if (states.at(-1) !== state) states.push(state);
      }
      assertEquals(changes, states.slice(1));
      assert(runtime.clock.timers === 0);
    });
  }
});
