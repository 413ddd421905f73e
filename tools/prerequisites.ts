// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * The programs that the suite needs and Deno does not bring: found on this machine, installed with
 * apt-get by root, taken from a container where Docker runs, or asked for in one line.
 *
 * @module
 */
import { chromiumPath } from "./servers/chromium.ts";
import { findPostgres } from "./servers/postgres_server.ts";

/** A program, or several that come together. */
export interface Prerequisite {
  /** The Debian package that holds it. */
  readonly package: string;
  /** Tests that run without it say so by not naming this folder. Default: all tests need it. */
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
  { package: "chromium", folder: "tests/browser", present: () => chromiumPath() !== undefined },
];

/** The image that has Deno, root and apt-get, and so everything else. */
const IMAGE = "denoland/deno:debian-2.9.6";

/** What can be run on this machine, and by whom. */
export interface Programs {
  readonly isRoot: boolean;
  /** Whether a program is there and works. */
  answers(program: string, question: string): Promise<boolean>;
  /** Runs a program before the user's eyes, and answers its exit code. */
  run(program: string, args: readonly string[], env?: Record<string, string>): Promise<number>;
}

/** A task, and where its project is. */
export interface TaskRun {
  readonly root: string;
  readonly task: string;
  readonly args: readonly string[];
}

/** How the programs came to be there: on this machine, or in a container that has run the command. */
export type Provision = { readonly here: true } | { readonly exitCode: number };

/**
 * Makes sure of the programs for a task. Where a container had to run the task, answers its exit code.
 *
 * @throws {Error} They are missing and can't be had. The message is one line with the command to run.
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
    // An old list of packages may do.
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

/** What the tests of these paths need; of no paths: everything. */
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

/** Runs the task on a copy of the source: the container's user is another than the one that owns it. */
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

async function answers(program: string, question: string): Promise<boolean> {
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
