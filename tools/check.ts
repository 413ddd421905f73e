// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task check`: all checks that need no running service. Every step runs, even after one has failed; the
 * exit code is 0 only if all succeed.
 *
 * @module
 */
import { resolve } from "node:path";
import { ROOT } from "./child_process.ts";
import { readOptions } from "./command_line.ts";
import { sourceFiles } from "./source_files.ts";

/** One check: a run of `deno` that must succeed. */
interface Step {
  readonly name: string;
  readonly args: readonly string[];
  readonly cwd?: string;
  /** Output that shows that the step could not be done here, as opposed to having failed. */
  readonly impossible?: RegExp;
}

const COMMAND = {
  name: "deno task check",
  help: `deno task check

Checks everything that can be checked without running the service: format, lint, types, docs, publishing,
import boundaries, and names in the pages. Every step runs, even if an earlier one has failed.`,
  options: {},
} as const;

/** The folders of the packages and their entry points. */
const PACKAGES = {
  "cache": "cache/mod.ts",
  "changes": "changes/mod.ts",
  "adapters/drizzle": "adapters/drizzle/mod.ts",
  "proof/races": "proof/races/adapter.ts",
};

/** Deno's message if JSR does not answer. */
const jsrUnreachable = /JSR package manifest for .* failed to load/;

if (import.meta.main) Deno.exit(await main());

async function main(): Promise<number> {
  readOptions(COMMAND);
  let failed = 0;
  for (const step of await steps()) {
    if (!await holds(step)) failed++;
  }
  console.log(failed === 0 ? "\nAll checks hold." : `\n${failed} checks failed.`);
  return failed === 0 ? 0 : 1;
}

async function steps(): Promise<Step[]> {
  const code = (await sourceFiles(ROOT)).filter((path) => !path.startsWith("bench/"));
  const scripts = (await sourceFiles(ROOT, ".js")).filter((path) =>
    /^(cache\/dashboard\/)?web\//.test(path)
  );
  const pages = (await sourceFiles(ROOT, ".md")).filter((path) => !path.startsWith("bench/"));
  const jsr = await jsrOnly(code);
  return [
    { name: "format", args: ["fmt", "--check"] },
    { name: "lint", args: ["lint"] },
    {
      name: "types",
      args: [
        ...["check", "--quiet", "--frozen", "--doc"],
        ...code.filter((path) => !jsr.includes(path)),
        ...[...scripts, ...pages],
      ],
    },
    {
      name: "types, JSR profile",
      args: ["check", "--quiet", "--no-lock", "--import-map", "import_map.jsr.json", ...code],
      impossible: jsrUnreachable,
    },
    { name: "docs", args: ["doc", "--lint", ...Object.values(PACKAGES)] },
    ...Object.keys(PACKAGES).map((cwd) => ({
      name: `package ${cwd}`,
      args: ["publish", "--dry-run", "--allow-dirty"],
      cwd,
    })),
    {
      name: "boundaries",
      args: ["test", "--frozen", "--allow-all", "--no-prompt", "tests/architecture_test.ts"],
    },
    {
      name: "pages",
      args: ["test", "--frozen", "--allow-all", "--no-prompt", "tests/docs/links_test.ts"],
    },
  ];
}

/** The files that the default import map cannot resolve: those that only the other map names or leads to. */
async function jsrOnly(paths: readonly string[]): Promise<string[]> {
  const byDefault = await importsOf("deno.json");
  const added = Object.entries(await importsOf("import_map.jsr.json"))
    .filter(([name, target]) => byDefault[name] !== target);
  const names = added.map(([name]) => name).filter((name) => !(name in byDefault));
  const targets = added.map(([, target]) => target.replace(/^\.\//, ""));
  const found: string[] = [];
  for (const path of paths) {
    const text = await Deno.readTextFile(resolve(ROOT, path));
    const named = names.some((name) => text.includes(`from "${name}"`));
    if (named || targets.includes(path)) found.push(path);
  }
  return found;
}

async function importsOf(map: string): Promise<Record<string, string>> {
  return JSON.parse(await Deno.readTextFile(resolve(ROOT, map))).imports;
}

async function holds(step: Step): Promise<boolean> {
  const startedAtMs = performance.now();
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...step.args],
    cwd: resolve(ROOT, step.cwd ?? "."),
    stdin: "null",
    env: Deno.stdout.isTerminal() ? { FORCE_COLOR: "1" } : { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  const output = decoder.decode(stdout) + decoder.decode(stderr);
  const impossible = !success && (step.impossible?.test(output) ?? false);
  const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(1);
  const verdict = success ? "ok    " : impossible ? "not   " : "FAILED";
  const reason = impossible ? " (JSR does not answer from here)" : "";
  console.log(`${verdict} ${step.name.padEnd(18)} ${seconds.padStart(5)} s${reason}`);
  if (!success && !impossible) console.log(`\n${output.trimEnd()}\n`);
  return success || impossible;
}
