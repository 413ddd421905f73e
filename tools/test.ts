// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task test`: the whole suite on temporary servers.
 *
 * Arguments go to `deno test`; paths among them replace the folder `tests/`. The examples of doc comments are run
 * with another import map only: with the default one `deno task prove` runs them.
 *
 * @module
 */
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "./child_process.ts";
import type { TestCounts } from "./junit.ts";
import { sourceFiles } from "./source_files.ts";
import { ciLock, EXAMPLES, runSuite, type Suite } from "./suite.ts";

/** The slowest files, which begin first, so that none of them is left at the end to run alone. */
const LONGEST = [
  "tests/tools/dev/main_test.ts",
  "tests/tools/load/main_test.ts",
  "tests/changes/fallback_test.ts",
  "tests/tools/start_test.ts",
  "tests/server/supervisor_test.ts",
  "tests/browser/appearance_test.ts",
  "tests/browser/dashboard_test.ts",
  "tests/cache/redis/outage_test.ts",
  "tests/server/rate_limits_test.ts",
  "tests/browser/break_it_test.ts",
  "tests/changes/two_phase_test.ts",
  "tests/changes/watch_test.ts",
  "tests/cache/redis/feed_test.ts",
  "tests/docs/blocks_test.ts",
  "tests/adapters/drizzle_test.ts",
  "tests/cache/redis/refused_test.ts",
  "tests/changes/relay_test.ts",
  "tests/db/several_hosts_test.ts",
  "tests/db/outage_test.ts",
  "tests/integration/shutdown_test.ts",
  "tests/browser/mounted_test.ts",
];

/** Most of the others take a second: so many of them share a process. */
const FILES_PER_PART = 12;

/** The file that imports those of a part. */
const TOGETHER = "tests/together.ts";

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
    if (!whole) {
      const files = paths.length > 0 ? [] : ["tests"];
      return await suite.test([...lock, ...args, ...files], env);
    }
    const types = args.includes("--no-check") ? [] : ["--no-check"];
    const flags = [...lock, ...types];
    const parts = (await inParts()).map((files) => [...flags, ...args, ...together(files)]);
    if (importMap !== undefined) {
      parts.unshift([...lock, "--import-map", importMap, ...EXAMPLES]);
    }
    return await suite.testParts(parts, env);
  };
  return await runSuite({ name: "test", args, paths, minutesMax: 40, run });
}

/** The arguments for some test files, of which one alone is named in what `deno test` prints. */
function together(files: readonly string[]): readonly string[] {
  return files.length === 1 ? files : [TOGETHER, "--", ...files];
}

/** The test files, in the order in which they begin: the longest one by one, the others several in a process. */
async function inParts(): Promise<string[][]> {
  const files = (await sourceFiles(ROOT)).filter((path) => /^tests\/.*_test\.ts$/.test(path));
  for (const path of LONGEST) {
    if (!files.includes(path)) throw new Error(`Cannot find ${path}: is it in LONGEST in vain?`);
  }
  const others = files.filter((path) => !LONGEST.includes(path));
  const parts = LONGEST.map((path) => [path]);
  for (let at = 0; at < others.length; at += FILES_PER_PART) {
    parts.push(others.slice(at, at + FILES_PER_PART));
  }
  return parts;
}
