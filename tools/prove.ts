/**
 * `deno task prove`: the programs and tests of `proof/`, and the examples of doc comments.
 *
 * @module
 */
import { readOptions } from "./command_line.ts";
import type { TestCounts } from "./junit.ts";
import { ciLock, EXAMPLES, runSuite, type Suite, sumOf } from "./suite.ts";

const COMMAND = {
  name: "deno task prove",
  help: `deno task prove [OPTION…]

Runs the model, the fuzzer, the consistency checker, the topologies, the table of faults, the guides and
examples, and the programs from end to end, on servers that it starts, in about 17 minutes. See proof/README.md.

  --quick  only what does not depend on timing, in about five minutes: what CI runs`,
  options: { quick: { type: "boolean" } },
} as const;

/** Tests and programs; programs run one after the other, because they measure durations. */
const WHOLE = {
  tests: ["proof"],
  programs: [
    ["proof/fuzz/main.ts", "--requests", "20000"],
    ["proof/consistency/main.ts", "--seconds", "60"],
    ["proof/fault/main.ts", "--seconds", "1", "--promises"],
  ],
};

const QUICK = {
  tests: [
    ...["model", "interleavings", "memory", "fuzz", "packages", "postgres"],
    ...["docs", "end_to_end"],
  ].map((each) => `proof/${each}`),
  programs: [["proof/consistency/main.ts", "--seconds", "30"]],
};

if (import.meta.main) Deno.exit(await main());

async function main(): Promise<number> {
  const { tests, programs } = readOptions(COMMAND).quick ? QUICK : WHOLE;
  const run = async (suite: Suite): Promise<TestCounts> => {
    const counts = [
      await suite.test([...ciLock(), ...tests]),
      await suite.test([...ciLock(), ...EXAMPLES]),
    ];
    for (const program of programs) {
      counts.push(await suite.program([...ciLock(), ...program]));
    }
    return sumOf(counts);
  };
  return await runSuite({ name: "prove", args: Deno.args, paths: tests, minutesMax: 30, run });
}
