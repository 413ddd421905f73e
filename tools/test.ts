// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task test`: the whole suite on temporary servers.
 *
 * Arguments go to `deno test`; paths among them replace the folder `tests/`, and then the doc examples are left
 * out, as they are with `--filter`.
 *
 * @module
 */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "./child_process.ts";
import type { TestCounts } from "./junit.ts";
import { sourceFiles } from "./source_files.ts";
import { ciLock, runSuite, type Suite, sumOf } from "./suite.ts";

/** Folders of the slowest files, which begin first. */
const LONGEST = /^tests\/(tools|browser|docs|integration|server|changes|cache\/(behaviour|node))/;

/** The modules whose examples are run. */
const EXAMPLES = ["adapters", "cache", "changes"];

const HELP = `deno task test [PATH…] [OPTION…]

Runs the whole test suite, or the tests in PATH…, on a Redis and a Postgres that it starts, or on those in
REDIS_URL and DATABASE_URL, which are then written to. Installs missing programs if it may.

  --filter TEXT  only tests whose names contain TEXT
  --seed NUMBER  the seed of the property tests

Other options are passed to \`deno test\`. The types of the whole suite are left to \`deno task check\`.`;

if (import.meta.main) Deno.exit(await main(Deno.args));

async function main(args: readonly string[]): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    console.log(HELP);
    return 0;
  }
  const text = { type: "string" } as const;
  const { values, positionals: paths } = parseArgs({
    args: [...args],
    strict: false,
    allowPositionals: true,
    options: { "import-map": text, filter: text, seed: text, reporter: text },
  });
  const importMap = typeof values["import-map"] === "string"
    ? resolve(ROOT, values["import-map"])
    : undefined;
  const whole = paths.length === 0 && values.filter === undefined;
  // The lock file belongs to the default import map; the other one resolves ranges of JSR.
  const lock = importMap !== undefined ? ["--no-lock"] : ciLock();
  const env: Record<string, string> = importMap === undefined ? {} : { TEST_IMPORT_MAP: importMap };
  const run = async (suite: Suite): Promise<TestCounts> => {
    const files = paths.length > 0 ? [] : await testFiles();
    const types = whole && !args.includes("--no-check") ? ["--no-check"] : [];
    const tests = await suite.test([...lock, ...types, ...args, ...files], env);
    if (!whole) return tests;
    const map = importMap === undefined ? [] : ["--import-map", importMap];
    const flags = [...lock, ...types, ...map, "--doc", "--permit-no-files"];
    return sumOf([tests, await suite.test([...flags, ...EXAMPLES], env)]);
  };
  return await runSuite({ name: "test", args, paths, minutesMax: 40, run });
}

async function testFiles(): Promise<string[]> {
  const files = (await sourceFiles(ROOT)).filter((path) => /^tests\/.*_test\.ts$/.test(path));
  const [first, later] = [true, false].map((long) =>
    files.filter((path) => LONGEST.test(path) === long)
  );
  return [...first ?? [], ...later ?? []];
}
