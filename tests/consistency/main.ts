// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task test:consistency --seconds 60 --seed 1`: how fresh the service stays while everything
 * around it breaks. A violation writes the history of its key to a file in the current folder.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { AGREEMENT_MS_MAX, render, runConsistency } from "./run.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    seconds: { type: "string", default: "60" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    "no-faults": { type: "boolean", default: false },
  },
});
const report = await runConsistency({
  seconds: Number(values.seconds),
  seed: Number(values.seed),
  faults: !values["no-faults"],
});
console.log(render(report));
for (const [i, violation] of report.violations.entries()) {
  const file = `violation-${report.seed}-${i}.json`;
  await Deno.writeTextFile(file, JSON.stringify(violation, undefined, 1));
  console.log(`see ${file}`);
}
for (const lost of report.lost) console.log(lost);
const kept = report.violationsCount === 0 && report.lost.length === 0 &&
  report.agreedAfterMs <= AGREEMENT_MS_MAX;
Deno.exit(kept ? 0 : 1);
