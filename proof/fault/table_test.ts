import { assert, assertEquals, assertGreater } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import type { Fault } from "./fault.ts";
import { runRow } from "./row.ts";
import { FAULTS, renderTable } from "./table.ts";
import type { World } from "./world.ts";

/** Long enough for a few time-outs, and for the breaker to open and probe. */
const durations = { steadyMs: 300, faultMs: 800 };

/** A part of `deno task test:faults`. Faults of one kind use the same two instances. */
for (const [startWorld, faults] of groupByWorld(FAULTS.filter(({ short }) => short))) {
  describe("under a steady load, two instances see", () => {
    const stack = new AsyncDisposableStack();
    let world: World;

    beforeAll(async () => {
      world = stack.use(await startWorld());
    });
    afterAll(() => stack.disposeAsync());

    for (const fault of faults) {
      it(`${fault.name}; no answer is wrong, no write is lost, and they recover`, async () => {
        const row = await runRow(fault, world, { durations });
        const text = renderTable([row]);
        assert(row.impossible === undefined, text);
        assertEquals(row.broken, [], text);
        assertGreater(row.figures.requests, 0, text);
      });
    }
  });
}

function groupByWorld(faults: readonly Fault[]): Map<Fault["startWorld"], Fault[]> {
  return Map.groupBy(faults, ({ startWorld }) => startWorld);
}
