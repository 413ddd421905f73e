// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task test`: the whole suite against throwaway servers.
 *
 * Uses `REDIS_URL` and `DATABASE_URL` where they are set, else starts a Redis and a Postgres of its
 * own on free ports. Arguments go to `deno test`; paths among them replace the default `tests/ proof/`, and
 * then the doc examples are left out, as they are under `--filter`.
 *
 * The last line is `N passed, N failed`. The exit code is 0 only if something passed and nothing
 * failed, and with `CI=true` only if nothing was skipped either.
 *
 * @module
 */
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { findPostgres, startPostgres } from "./servers/postgres_server.ts";
import { startRedis } from "./servers/redis_server.ts";
import { countTests, type TestCounts } from "./junit.ts";

/** A suite that takes longer than this hangs: it takes a third of it on two idle cores. */
const suiteMsMax = 15 * 60_000;

/** Of the tests that spend their time waiting for servers, about half of what all take. */
const WAITING_TESTS = ["tests/cache/real", "proof/fault", "tests/tools"];

/** Where tests stand. */
const TESTS = ["tests", "proof"];

/** What was asked for on the command line. */
interface Request {
  readonly args: readonly string[];
  readonly importMap: string | undefined;
  readonly everything: boolean;
}

const HELP = `deno task test [PATH…] [OPTION…]

The whole suite, or the tests of those paths, on a Redis and a Postgres of its own, or on those of
REDIS_URL and DATABASE_URL, which are then written to.

  --filter TEXT  the tests whose names contain it
  --seed NUMBER  of the property tests

Other options go to \`deno test\`.`;

const root = resolve(import.meta.dirname ?? ".", "..");

if (import.meta.main) Deno.exit(await main(Deno.args));

async function main(args: readonly string[]): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    console.log(HELP);
    return 0;
  }
  const missing = await missingPrograms();
  if (missing.length > 0) {
    for (const text of missing) console.error(`Cannot run the suite: ${text}`);
    return 1;
  }
  const interrupt = new AbortController();
  const onSignal = () => interrupt.abort(new Error("interrupted"));
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(name, onSignal);
  }
  const late = AbortSignal.timeout(suiteMsMax);
  try {
    const counts = await runAll(readRequest(args), AbortSignal.any([interrupt.signal, late]));
    const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : "";
    if (late.aborted) console.error(`\nThe suite was ended after ${suiteMsMax / 60_000} minutes.`);
    console.log(`\n${counts.passed} passed, ${counts.failed} failed${skipped}`);
    return succeeded(counts) && !interrupt.signal.aborted ? 0 : 1;
  } finally {
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      Deno.removeSignalListener(name, onSignal);
    }
  }
}

function succeeded({ passed, failed, skipped }: TestCounts): boolean {
  return passed > 0 && failed === 0 && (skipped === 0 || Deno.env.get("CI") !== "true");
}

function readRequest(args: readonly string[]): Request {
  const text = { type: "string" } as const;
  const { values, positionals } = parseArgs({
    args: [...args],
    strict: false,
    allowPositionals: true,
    options: { "import-map": text, filter: text, seed: text, reporter: text },
  });
  const importMap = values["import-map"];
  return {
    args: positionals.length > 0 ? args : [...args, ...TESTS],
    importMap: typeof importMap === "string" ? resolve(root, importMap) : undefined,
    everything: positionals.length === 0 && values.filter === undefined,
  };
}

/** Runs the tests and the doc examples, between the start and the end of the servers. */
async function runAll(request: Request, signal: AbortSignal): Promise<TestCounts> {
  await using stack = new AsyncDisposableStack();
  const directory = await Deno.makeTempDir({ prefix: "lookaside_test_" });
  stack.defer(() => Deno.remove(directory, { recursive: true }));
  // Servers that run as another user keep their data below it.
  await Deno.chmod(directory, 0o711);
  Deno.env.set("TMPDIR", directory);

  const redisUrl = Deno.env.get("REDIS_URL") ?? stack.use(await startRedis()).serviceUrl;
  const databaseUrl = Deno.env.get("DATABASE_URL") ?? stack.use(await startPostgres()).url;
  const env: Record<string, string> = {
    REDIS_URL: redisUrl,
    DATABASE_URL: databaseUrl,
    TMPDIR: directory,
    ...(request.importMap ? { TEST_IMPORT_MAP: request.importMap } : {}),
  };
  const options = { env, directory, signal };
  if (!request.everything) return await runTests([...lockArgs(request), ...request.args], options);
  const args = [...lockArgs(request), ...request.args.filter((arg) => !TESTS.includes(arg))];
  const map = request.importMap ? ["--import-map", request.importMap] : [];
  // Most tests wait for servers most of the time: two at a time take half as long.
  const [waiting, others] = await Promise.all([
    runTests([...args, ...WAITING_TESTS], options),
    runTests([...args, `--ignore=${WAITING_TESTS.join(",")}`, ...TESTS], {
      ...options,
      later: true,
    }),
  ]);
  const docs = [...lockArgs(request), ...map, "--doc", "--permit-no-files", "cache", "changes"];
  return sumOf([waiting, others, await runTests(docs, options)]);
}

function sumOf(all: readonly TestCounts[]): TestCounts {
  return all.reduce((sum, counts) => ({
    passed: sum.passed + counts.passed,
    failed: sum.failed + counts.failed,
    skipped: sum.skipped + counts.skipped,
  }));
}

/** The lock file pins the default import map; the other one resolves ranges of JSR. */
function lockArgs(request: Request): string[] {
  if (request.importMap) return ["--no-lock"];
  return Deno.env.get("CI") === "true" ? ["--frozen"] : [];
}

/** How one run of `deno test` is made. */
interface RunOptions {
  readonly env: Record<string, string>;
  /** Where its report goes. */
  readonly directory: string;
  readonly signal: AbortSignal;
  /** Whether to show what it prints when it is done, because another run prints meanwhile. */
  readonly later?: boolean;
}

/** Runs `deno test` once, in a process group of its own that is gone afterwards. */
async function runTests(
  args: readonly string[],
  { env, directory, signal, later = false }: RunOptions,
): Promise<TestCounts> {
  const report = join(directory, `${crypto.randomUUID()}.xml`);
  if (signal.aborted) return { passed: 0, failed: 1, skipped: 0 };
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", "--allow-all", "--no-prompt", `--junit-path=${report}`, ...args],
    cwd: root,
    env,
    stdin: "null",
    stdout: later ? "piped" : "inherit",
    stderr: later ? "piped" : "inherit",
    detached: true,
  }).spawn();
  const printed = later
    ? Promise.all([new Response(child.stdout).bytes(), new Response(child.stderr).bytes()])
    : Promise.resolve([]);
  const endGroup = () => killGroup(child.pid);
  signal.addEventListener("abort", endGroup);
  try {
    const { success } = await child.status;
    for (const bytes of await printed) await Deno.stdout.write(bytes);
    const counts = await readReport(report);
    // A module that throws or does not load fails the run without a line in the report.
    return success || counts.failed > 0 ? counts : { ...counts, failed: 1 };
  } finally {
    signal.removeEventListener("abort", endGroup);
    endGroup();
  }
}

async function readReport(path: string): Promise<TestCounts> {
  try {
    return countTests(await Deno.readTextFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return { passed: 0, failed: 0, skipped: 0 };
    throw error;
  }
}

/** Ends what is left of a process group: servers that a test started and did not end. */
function killGroup(pid: number): void {
  try {
    Deno.kill(-pid, "SIGKILL");
  } catch (error) {
    const gone = error instanceof Deno.errors.NotFound || error instanceof TypeError;
    if (!gone) throw error;
  }
}

/** What the suite needs and this machine lacks. Fault tests need the programs in any case. */
async function missingPrograms(): Promise<string[]> {
  const missing: string[] = [];
  for (const program of ["redis-server", "redis-cli"]) {
    if (!await runs(program)) missing.push(`${program} is missing (Debian: redis-server)`);
  }
  if (!await runs("openssl", "version")) missing.push("openssl is missing (Debian: openssl)");
  try {
    await findPostgres();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    missing.push("initdb and postgres are missing (Debian: postgresql)");
  }
  return missing;
}

async function runs(program: string, question = "--version"): Promise<boolean> {
  try {
    const { success } = await new Deno.Command(program, {
      args: [question],
      stdout: "null",
      stderr: "null",
    }).output();
    return success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
