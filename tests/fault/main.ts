// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task test:faults [--seconds 3] [--only name] [--json]`: what happens when things break, under
 * a steady load, row by row. Exits with 1 if a target was missed.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { measureBaseline } from "./row.ts";
import { FAULTS, renderTable, runTable, verdictOf } from "./table.ts";

const { values } = parseArgs({
  args: Deno.args,
  options: {
    seconds: { type: "string", default: "3" },
    only: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const seconds = Number(values.seconds);
const only = values.only?.toLowerCase() ?? "";
const faults = FAULTS.filter(({ name }) => name.toLowerCase().includes(only));
if (!(seconds > 0 && seconds <= 600) || faults.length === 0) {
  console.error("Cannot make a table: --seconds takes a number up to 600, --only part of a name");
  for (const { name } of FAULTS) console.error(`  ${name}`);
  Deno.exit(2);
}
const durations = { steadyMs: seconds * 1_000, faultMs: seconds * 1_000 };
const baseline = await measureBaseline(durations);
const rows = await runTable({
  ...{ faults, durations, baseline },
  onRow: (row) => console.error(`${row.name}: ${verdictOf(row)}`),
});
console.log(
  values.json
    ? JSON.stringify({ seconds, baseline, rows }, undefined, 2)
    : renderTable(rows, baseline),
);
Deno.exit(rows.every(({ broken, slow }) => broken.length + slow.length === 0) ? 0 : 1);
