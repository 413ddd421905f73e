// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task test:consistency --seconds 60 --seed 1`: how fresh are the answers of the service during faults? A
 * violation writes the history of its key to a file in the current folder.
 *
 * @module
 */
import { misused, readOptions } from "../../tools/command_line.ts";
import { AGREEMENT_MS_MAX, render, runConsistency } from "./run.ts";

const COMMAND = {
  name: "deno task test:consistency",
  help: `deno task test:consistency [--seconds NUMBER] [--seed NUMBER] [--no-faults]

Checks how fresh three instances stay while everything around them breaks. For each violation, it writes
the key's history to a file in the current folder. Exits with 0 if there is none.

  --seconds NUMBER  how long (60)
  --seed NUMBER     repeat an earlier run
  --no-faults       break nothing`,
  options: {
    seconds: { type: "string", default: "60" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    "no-faults": { type: "boolean", default: false },
  },
} as const;

const values = readOptions(COMMAND);
const [seconds, seed] = [Number(values.seconds), Number(values.seed)];
if (!(seconds > 0) || !Number.isInteger(seed)) {
  misused(COMMAND, "Cannot check: --seconds takes a number, --seed a whole one");
}
const report = await runConsistency({
  seconds,
  seed,
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
