// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task test:faults [--seconds 3] [--only name] [--promises] [--json]`: the effects of faults under a
 * steady load, one row for each. Exits with 1 if a target was missed.
 *
 * @module
 */
import { misused, readOptions } from "../../tools/command_line.ts";
import { measureBaseline } from "./row.ts";
import { FAULTS, renderTable, runTable, verdictOf } from "./table.ts";

const COMMAND = {
  name: "deno task test:faults",
  help: `deno task test:faults [--seconds NUMBER] [--only NAME] [--promises] [--json]

Measures what each fault costs under a steady load, row by row. Exits with 1 if a target was missed.

  --seconds NUMBER  how long each fault lasts (3)
  --only NAME       only rows whose names contain NAME
  --promises        fail only for a broken promise, not for a missed time: for a machine that also
                    does other work
  --json            print every figure as JSON

The rows:
${FAULTS.map(({ name }) => `  ${name}`).join("\n")}`,
  options: {
    seconds: { type: "string", default: "3" },
    only: { type: "string" },
    promises: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
} as const;

const values = readOptions(COMMAND);
const seconds = Number(values.seconds);
const only = values.only?.toLowerCase() ?? "";
const faults = FAULTS.filter(({ name }) => name.toLowerCase().includes(only));
if (!(seconds > 0 && seconds <= 600)) {
  misused(COMMAND, "Cannot make a table: --seconds takes a number up to 600");
}
if (faults.length === 0) misused(COMMAND, `Cannot make a table: no row has ${only} in its name`);
const durations = { steadyMs: seconds * 1_000, faultMs: seconds * 1_000 };
const baseline = await measureBaseline(durations);
const rows = await runTable({
  faults,
  durations,
  baseline,
  onRow: (row) => console.error(`${row.name}: ${verdictOf(row)}`),
});
console.log(
  values.json
    ? JSON.stringify({ seconds, baseline, rows }, undefined, 2)
    : renderTable(rows, baseline),
);
const missed = rows.flatMap(({ broken, slow }) => values.promises ? broken : [...broken, ...slow]);
Deno.exit(missed.length === 0 ? 0 : 1);
