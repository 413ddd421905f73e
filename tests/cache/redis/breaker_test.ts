import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Breaker, type BreakerState } from "../../../cache/redis/breaker.ts";
import { FakeRuntime } from "../../support/fake_runtime.ts";

type Step = "fail" | "succeed" | "admitted" | "refused" | "wait" | "wait too little";

/** Each row: what happens, and the state afterwards. */
const table: Readonly<Record<string, readonly (readonly [Step, BreakerState])[]>> = {
  "opens at the third failure in a row": [
    ["fail", "closed"],
    ["fail", "closed"],
    ["fail", "open"],
    ["refused", "open"],
  ],
  "forgets failures at a success": [
    ["fail", "closed"],
    ["fail", "closed"],
    ["succeed", "closed"],
    ["fail", "closed"],
    ["fail", "closed"],
    ["admitted", "closed"],
  ],
  "lets one probe through after the open time, and closes when it succeeds": [
    ["fail", "closed"],
    ["fail", "closed"],
    ["fail", "open"],
    ["wait too little", "open"],
    ["refused", "open"],
    ["wait", "open"],
    ["admitted", "half-open"],
    ["refused", "half-open"],
    ["succeed", "closed"],
    ["admitted", "closed"],
    ["fail", "closed"],
  ],
  "opens again, for the whole open time, when the probe fails": [
    ["fail", "closed"],
    ["fail", "closed"],
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
    ["fail", "closed"],
    ["fail", "closed"],
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
      const breaker = new Breaker(runtime, {
        failuresMax: 3,
        openMs: 100,
        onChange: (state) => void changes.push(state),
      });
      const states: BreakerState[] = ["closed"];
      for (const [step, state] of rows) {
        if (step === "fail") breaker.fail();
        else if (step === "succeed") breaker.succeed();
        else if (step === "wait") await runtime.clock.advance(100);
        else if (step === "wait too little") await runtime.clock.advance(99);
        else assertEquals(breaker.admit(), step === "admitted", step);
        assertEquals(breaker.state, state, step);
        if (states.at(-1) !== state) states.push(state);
      }
      assertEquals(changes, states.slice(1));
      assert(runtime.clock.timers === 0);
    });
  }
});
