// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * The programs that the suite needs besides Deno: found on this machine, installed with apt-get by root, taken
 * from a container if Docker runs, or requested in one line.
 *
 * @module
 */
import { succeeds } from "./child_process.ts";
import { chromiumPath } from "./servers/chromium.ts";
import { findPostgres } from "./servers/postgres_server.ts";

/** A program, or several of one package. */
export interface Prerequisite {
  /** The Debian package that holds it. */
  readonly package: string;
  /** The folder of the only tests that need it. Default: all tests do. */
  readonly folder?: string;
  /** Looks for it on this machine. */
  readonly present: () => boolean | Promise<boolean>;
}

/** Everything that the suite needs. */
export const PREREQUISITES: readonly Prerequisite[] = [
  {
    package: "redis-server",
    present: async () =>
      await answers("redis-server", "--version") && await answers("redis-cli", "-v"),
  },
  { package: "postgresql", present: hasPostgres },
  { package: "openssl", present: () => answers("openssl", "version") },
  { package: "pgbouncer", present: () => answers("pgbouncer", "--version") },
  {
    package: "nginx-light",
    folder: "tests/integration",
    present: () => answers("nginx", "-v"),
  },
  {
    package: "chromium-headless-shell",
    folder: "tests/browser",
    present: () => chromiumPath() !== undefined,
  },
];

/** Time that a program has to answer. */
const QUESTION_TIMEOUT_MS = 60_000;

/** An image with Deno, root and apt-get, and thus everything else. */
const IMAGE = "denoland/deno:debian-2.9.6";

/** Checks and runs programs of this machine. */
export interface Programs {
  readonly isRoot: boolean;
  /** Answers true if a program is installed and works. */
  answers(program: string, question: string): Promise<boolean>;
  /** Runs a program with visible output, and answers its exit code. */
  run(program: string, args: readonly string[], env?: Record<string, string>): Promise<number>;
}

/** A task and the path of its project. */
export interface TaskRun {
  readonly root: string;
  readonly task: string;
  readonly args: readonly string[];
}

/** The programs are on this machine, or a container has run the command. */
export type Provision = { readonly here: true } | { readonly exitCode: number };

/**
 * Provides the programs for a task. If a container had to run the task, answers its exit code.
 *
 * @throws {Error} They are missing and cannot be installed. The message is one line with the command to run.
 */
export async function provide(
  needed: readonly Prerequisite[],
  task: TaskRun,
  programs: Programs = ofThisMachine,
): Promise<Provision> {
  const missing = await missingOf(needed);
  if (missing.length === 0) return { here: true };
  const install = ["install", "-qy", "--no-install-recommends", ...missing];
  if (programs.isRoot && await programs.answers("apt-get", "--version")) {
    console.log(`Installing what the suite needs: apt-get ${install.join(" ")}`);
    const env = { DEBIAN_FRONTEND: "noninteractive" };
    // If this fails, the old list of packages may do.
    await programs.run("apt-get", ["update", "-q"], env);
    await programs.run("apt-get", install, env);
    const still = await missingOf(needed);
    if (still.length === 0) return { here: true };
    throw new Error(`Cannot run the suite: ${still.join(", ")} could not be installed`);
  }
  if (await programs.answers("docker", "info")) {
    console.log(`Running in a container, for this machine lacks ${missing.join(", ")}`);
    return { exitCode: await programs.run("docker", containerArgs(task)) };
  }
  const command = Deno.build.os === "darwin"
    ? "brew install redis postgresql openssl pgbouncer nginx chromium"
    : `sudo apt-get ${install.join(" ")}`;
  throw new Error(`Cannot run the suite: ${missing.join(", ")} missing. Run: ${command}`);
}

/** The requirements of the tests at these paths; without paths: all. */
export function neededBy(paths: readonly string[]): Prerequisite[] {
  return PREREQUISITES.filter(({ folder }) =>
    folder === undefined || paths.length === 0 ||
    paths.some((path) => path.includes(folder) || folder.startsWith(path.replace(/\/$/, "")))
  );
}

async function missingOf(needed: readonly Prerequisite[]): Promise<string[]> {
  const missing: string[] = [];
  for (const { package: name, present } of needed) if (!await present()) missing.push(name);
  return missing;
}

/** Runs the task on a copy of the source, because the container has another user than the owner. */
function containerArgs({ root, task, args }: TaskRun): string[] {
  return [
    ...["run", "--rm", "--init", "--env", `CI=${Deno.env.get("CI") ?? ""}`],
    ...["--volume", `${root}:/source:ro`, "--volume", "lookaside_deno:/deno-dir", IMAGE],
    ...["sh", "-c", 'cp -r /source /suite && cd /suite && exec deno task "$@"', "sh", task],
    ...args,
  ];
}

async function hasPostgres(): Promise<boolean> {
  try {
    await findPostgres();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

const ofThisMachine: Programs = {
  isRoot: Deno.uid() === 0,
  answers,
  async run(program, args, env = {}) {
    const child = new Deno.Command(program, { args: [...args], env, stdin: "null" }).spawn();
    return (await child.status).code;
  },
};

function answers(program: string, question: string): Promise<boolean> {
  return succeeds(program, [question], QUESTION_TIMEOUT_MS);
}
