// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * A run of tests for `deno task test` and `deno task prove`: servers, processes and counts.
 *
 * @module
 */
import { join } from "node:path";
import { ROOT, send, succeeds } from "./child_process.ts";
import { countTests, type TestCounts } from "./junit.ts";
import { memoryFolder } from "./memory_folder.ts";
import { neededBy, provide } from "./prerequisites.ts";
import { DATA_FOLDER_VARIABLE, startPostgres } from "./servers/postgres_server.ts";
import { startRedis } from "./servers/redis_server.ts";

/** The arguments of `deno test` that run the examples of doc comments; `deno task check` is for their types. */
export const EXAMPLES: readonly string[] = [
  ...["--no-check", "--doc", "--permit-no-files"],
  ...["adapters", "cache", "changes"],
];

/** A task that counts tests. */
export interface SuiteTask {
  /** Its name in `deno.json`. */
  readonly name: string;
  /** Its arguments, for a container that runs it. */
  readonly args: readonly string[];
  /** The folders and files of its tests; empty: the whole suite. */
  readonly paths: readonly string[];
  /** A run that takes longer counts as hung. */
  readonly minutesMax: number;
  /** Runs the tests and counts them. */
  readonly run: (suite: Suite) => Promise<TestCounts>;
}

/**
 * Starts the servers, runs a task, prints `N passed, N failed` as the last line, and answers the exit code: 0
 * only if something passed and nothing failed, and with `CI=true` only if nothing was skipped either.
 */
export async function runSuite(task: SuiteTask): Promise<number> {
  try {
    const provision = await provide(neededBy(task.paths), {
      root: ROOT,
      task: task.name,
      args: task.args,
    });
    if ("exitCode" in provision) return provision.exitCode;
    await cachePackages();
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    return 1;
  }
  const startedAtMs = performance.now();
  const interrupt = new AbortController();
  const onSignal = () => interrupt.abort(new Error("interrupted"));
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const name of signals) Deno.addSignalListener(name, onSignal);
  const late = AbortSignal.timeout(task.minutesMax * 60_000);
  try {
    await using suite = await Suite.start(AbortSignal.any([interrupt.signal, late]));
    const counts = await task.run(suite);
    if (late.aborted) console.error(`\nEnded after ${task.minutesMax} minutes.`);
    const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : "";
    const seconds = Math.round((performance.now() - startedAtMs) / 1_000);
    console.log(`\ndeno task ${task.name}: ${seconds} s`);
    console.log(`${counts.passed} passed, ${counts.failed} failed${skipped}`);
    return succeeded(counts) && !interrupt.signal.aborted ? 0 : 1;
  } finally {
    for (const name of signals) Deno.removeSignalListener(name, onSignal);
  }
}

type SuiteEnvironment = Readonly<
  Record<"REDIS_URL" | "DATABASE_URL" | "TMPDIR" | "DENO_JOBS" | "DENO_V8_FLAGS", string>
>;

/** Options of a run of Deno. */
interface DenoOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** The path of a file for its output. Default: it is shown. */
  readonly output?: string;
}

/** A Redis, a Postgres and a temporary folder, with the processes that use them. */
export class Suite implements AsyncDisposable {
  readonly #stack: AsyncDisposableStack;
  readonly #env: SuiteEnvironment;
  readonly #signal: AbortSignal;

  private constructor(stack: AsyncDisposableStack, env: SuiteEnvironment, signal: AbortSignal) {
    this.#stack = stack;
    this.#env = env;
    this.#signal = signal;
  }

  /** Starts the servers that `REDIS_URL` and `DATABASE_URL` do not name. */
  static async start(signal: AbortSignal): Promise<Suite> {
    await using stack = new AsyncDisposableStack();
    const temporaryFolder = async (dir?: string): Promise<string> => {
      const folder = await Deno.makeTempDir({ ...dir && { dir }, prefix: "lookaside_test_" });
      stack.defer(() => Deno.remove(folder, { recursive: true }));
      // Servers that run as another user have their data in it.
      await Deno.chmod(folder, 0o711);
      return folder;
    };
    const directory = await temporaryFolder();
    Deno.env.set("TMPDIR", directory);
    // Deno gives nobody a file below `/dev` but those who have all permissions, so other files are not in memory.
    Deno.env.set(DATA_FOLDER_VARIABLE, await temporaryFolder(await memoryFolder()));
    const env = {
      REDIS_URL: Deno.env.get("REDIS_URL") ?? stack.use(await startRedis()).serviceUrl,
      DATABASE_URL: Deno.env.get("DATABASE_URL") ?? stack.use(await startPostgres()).url,
      TMPDIR: directory,
      // One file more than processors, because tests wait half of their time; with many more, tests that measure
      // durations would disturb each other.
      DENO_JOBS: Deno.env.get("DENO_JOBS") ?? String(1 + navigator.hardwareConcurrency),
      // Postgres in WebAssembly runs for a few seconds only: compiling it well takes more than it saves.
      DENO_V8_FLAGS: "--liftoff-only",
    };
    return new Suite(stack.move(), env, signal);
  }

  /** Runs `deno test`, several files at a time. */
  async test(args: readonly string[], env: Record<string, string> = {}): Promise<TestCounts> {
    return await this.#test(["--parallel", ...args], { env });
  }

  /**
   * Runs `deno test` once for each list of arguments, several at a time, and begins in their order: Deno's own order
   * of files would leave the longest to the end. The output of a run is shown when it has ended, or after all the
   * others if something failed.
   */
  async testParts(
    parts: readonly (readonly string[])[],
    env: Record<string, string> = {},
  ): Promise<TestCounts> {
    const waiting = [...parts];
    const all: TestCounts[] = [];
    const failures: string[] = [];
    const work = async () => {
      while (!this.#signal.aborted) {
        const args = waiting.shift();
        if (args === undefined) return;
        const output = join(this.#env.TMPDIR, `${crypto.randomUUID()}.txt`);
        const counts = await this.#test(args, { env, output });
        all.push(counts);
        const text = await Deno.readTextFile(output);
        if (counts.failed > 0) failures.push(text);
        else console.log(text);
      }
    };
    await Promise.all(Array.from({ length: Number(this.#env.DENO_JOBS) }, work));
    for (const text of failures) console.log(text);
    return sumOf(all);
  }

  /** Runs a program that proves something by exiting with 0, and counts it as one test. */
  async program(args: readonly string[]): Promise<TestCounts> {
    console.log(`\n${args.join(" ")}`);
    const success = await this.#deno(["run", "--allow-all", ...args]);
    return { passed: success ? 1 : 0, failed: success ? 0 : 1, skipped: 0 };
  }

  async #test(args: readonly string[], options: DenoOptions): Promise<TestCounts> {
    const report = join(this.#env.TMPDIR, `${crypto.randomUUID()}.xml`);
    const success = await this.#deno(
      ["test", "--allow-all", "--no-prompt", `--junit-path=${report}`, ...args],
      options,
    );
    const counts = await readReport(report);
    // A module that throws or does not load fails the run without an entry in the report.
    return success || counts.failed > 0 ? counts : { ...counts, failed: 1 };
  }

  /** Runs Deno once, in its own process group, which is killed afterwards. */
  async #deno(
    args: readonly string[],
    { env = {}, output }: DenoOptions = {},
  ): Promise<boolean> {
    if (this.#signal.aborted) return false;
    const into = output === undefined ? "" : '>"$0" 2>&1';
    const child = new Deno.Command("sh", {
      // A file, for a pipe would stay open as long as any process that a test has left behind.
      args: ["-c", `exec "$@" ${into}`, output ?? "", Deno.execPath(), ...args],
      cwd: ROOT,
      env: { ...this.#env, ...env },
      stdin: "null",
      detached: true,
    }).spawn();
    // Servers that a test started and did not stop are in it too.
    const endGroup = () => send(-child.pid, "SIGKILL");
    this.#signal.addEventListener("abort", endGroup);
    try {
      return (await child.status).success;
    } finally {
      this.#signal.removeEventListener("abort", endGroup);
      endGroup();
    }
  }

  /** Stops the servers and removes the folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/**
 * Puts the packages of the lock file into Deno's cache, and what the registry says of them, which Deno without it asks
 * for at every start and says so: it would be among what the programs of a test print.
 */
async function cachePackages(): Promise<void> {
  for (const options of [ciLock(), ["--no-lock", "--lockfile-only"]]) {
    await succeeds(Deno.execPath(), ["install", "--quiet", ...options]);
  }
}

/** The flags with which CI, where packages must be those of the lock file, runs Deno. */
export function ciLock(): string[] {
  return Deno.env.get("CI") === "true" ? ["--frozen"] : [];
}

/** Adds up counts. */
export function sumOf(all: readonly TestCounts[]): TestCounts {
  return all.reduce((sum, counts) => ({
    passed: sum.passed + counts.passed,
    failed: sum.failed + counts.failed,
    skipped: sum.skipped + counts.skipped,
  }));
}

function succeeded({ passed, failed, skipped }: TestCounts): boolean {
  return passed > 0 && failed === 0 && (skipped === 0 || Deno.env.get("CI") !== "true");
}

async function readReport(path: string): Promise<TestCounts> {
  try {
    return countTests(await Deno.readTextFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return { passed: 0, failed: 0, skipped: 0 };
    throw error;
  }
}
