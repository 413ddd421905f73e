/**
 * `deno task prove`: the programs of `proof/`, and the tests that show that each would find what it looks
 * for.
 *
 * @module
 */
import { readOptions } from "./command_line.ts";
import type { TestCounts } from "./junit.ts";
import { runSuite, type Suite, sumOf } from "./suite.ts";

const COMMAND = {
  name: "deno task prove",
  help: `deno task prove

Model, fuzzer, consistency checker and table of faults, on servers of their own, in about ten minutes.
See proof/README.md.`,
  options: {},
} as const;

/** Run one after the other, for they time what they see. */
const PROGRAMS = [
  ["proof/fuzz/main.ts", "--requests", "20000"],
  ["proof/consistency/main.ts", "--seconds", "60"],
  ["proof/fault/main.ts", "--seconds", "1", "--promises"],
];

if (import.meta.main) Deno.exit(await main());

async function main(): Promise<number> {
  readOptions(COMMAND);
  return await runSuite({
    ...{ name: "prove", args: Deno.args, paths: ["proof"], minutesMax: 20 },
    run: prove,
  });
}

async function prove(suite: Suite): Promise<TestCounts> {
  const lock = Deno.env.get("CI") === "true" ? ["--frozen"] : [];
  const counts = [await suite.test([...lock, "proof"])];
  for (const program of PROGRAMS) {
    counts.push(await suite.program([...lock, ...program]));
  }
  return sumOf(counts);
}
