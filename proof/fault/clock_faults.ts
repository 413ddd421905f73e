/**
 * Faults in which the clock is set. Wall time decides how fresh an entry is, but never whether it is valid.
 *
 * @module
 */
import { type Fault, faultsOf, type Heal } from "./fault.ts";
import { startInProcess, SteppedClock } from "./in_process.ts";
import { type Backend, type Standalone, startStandalone, startWorld, type World } from "./world.ts";

const HOUR_MS = 3_600_000;

/** A backend, and the clocks of the instances. */
interface Clocked extends Backend {
  readonly clocks: readonly SteppedClock[];
}

async function startClockedWorld(): Promise<World<Clocked>> {
  const clocks = [new SteppedClock(), new SteppedClock()];
  const backend = async (): Promise<Standalone & Clocked> => ({
    ...await startStandalone(),
    clocks,
  });
  return await startWorld<Clocked>({
    backend,
    instances: (env) => clocks.map((clock) => Promise.resolve(startInProcess(env, clock))),
  });
}

/** The rows. */
export const CLOCK_FAULTS: readonly Fault[] = faultsOf(startClockedWorld, [
  {
    name: "the clock set an hour ahead, and back",
    short: true,
    start: ({ backend: { clocks } }) => step(clocks, HOUR_MS),
  },
  {
    name: "the clock set an hour back, and right again",
    start: ({ backend: { clocks } }) => step(clocks, -HOUR_MS),
  },
  {
    name: "one instance's clock an hour ahead of the other's",
    start: ({ backend: { clocks } }) => step(clocks.slice(0, 1), HOUR_MS),
  },
]);

function step(clocks: readonly SteppedClock[], stepMs: number): Heal {
  for (const clock of clocks) clock.stepMs += stepMs;
  return () => {
    for (const clock of clocks) clock.stepMs -= stepMs;
  };
}
