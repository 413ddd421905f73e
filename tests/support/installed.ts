/**
 * An example, installed as its README says, with the packages of this tree.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pack } from "../../tools/pack.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** The packages of this tree, and their folders. */
const FOLDERS: Readonly<Record<string, string>> = {
  "@lookaside/cache": "cache",
  "@lookaside/changes": "changes",
  "@lookaside/drizzle": "adapters/drizzle",
  "@lookaside/races": "proof/races",
};

/** The packages of npm in the map of the whole tree that its packages need. */
const NEEDED = ["ioredis", "lru-cache"];

/** Runs a command. Answers what it printed. */
export async function run(
  command: string,
  args: readonly string[],
  { cwd, env = {} }: { readonly cwd: string; readonly env?: Readonly<Record<string, string>> },
): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args: [...args], cwd, env })
    .output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`Cannot run ${command}: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

/** The runtimes that the packages promise to run on, as npm has them; and this one. */
export const RUNTIMES = ["node@22", "node@24", "bun@1", "deno"] as const;

/** A runtime, and what its arguments begin with. */
export interface Program {
  readonly command: string;
  readonly args: readonly string[];
}

/** The program of a runtime. */
export async function runtimeProgram(runtime: string, cwd: string): Promise<Program> {
  if (runtime === "deno") return { command: Deno.execPath(), args: ["run", "-A", "--quiet"] };
  const name = runtime.replace(/@.*/, "");
  const command = (await run("npx", ["-y", "-p", runtime, "which", name], { cwd })).trim();
  return { command, args: [] };
}

/** The tarballs of this tree's packages, by folder: they are made once. */
const tarballs = new Map<string, Promise<string>>();

async function tarballOf(folder: string): Promise<string> {
  const made = tarballs.get(folder) ?? packed(folder);
  tarballs.set(folder, made);
  return await made;
}

/** Packs into a folder that is removed at the end of the test file. */
async function packed(folder: string): Promise<string> {
  const out = await Deno.makeTempDir({ prefix: "lookaside_packed_" });
  addEventListener("unload", () => Deno.removeSync(out, { recursive: true }));
  return await pack(folder, out);
}

/** Installs an example into a folder of its own, which the caller removes. */
export async function installExample(name: string): Promise<string> {
  const { dependencies } = JSON.parse(
    await Deno.readTextFile(join(root, `examples/${name}/package.json`)),
  );
  const folder = await install(dependencies);
  await Deno.copyFile(join(root, `examples/${name}/main.js`), join(folder, "main.js"));
  return folder;
}

/** Installs packages into a folder of its own, which the caller removes; those of this tree from the tree. */
export async function install(dependencies: Readonly<Record<string, string>>): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "lookaside_installed_" });
  const own = Object.keys(dependencies).filter((each) => each in FOLDERS);
  const others = Object.entries(dependencies).filter(([each]) => !(each in FOLDERS));
  const needed = await Promise.all(["", ...own.map((each) => FOLDERS[each] ?? "")].map(packagesOf));
  const all = { ...Object.assign({}, ...needed), ...Object.fromEntries(others) };
  const manifest = JSON.stringify({ dependencies: all, type: "module" });
  await Deno.writeTextFile(join(folder, "package.json"), manifest);
  await Deno.writeTextFile(join(folder, "deno.json"), '{ "nodeModulesDir": "manual" }');
  const linker = "--node-modules-linker=hoisted";
  await run(Deno.execPath(), ["install", "--quiet", linker], { cwd: folder });
  await Promise.all(own.map(async (each) => {
    const target = join(folder, "node_modules", each);
    await Deno.mkdir(target, { recursive: true });
    const tarball = await tarballOf(FOLDERS[each] ?? "");
    await run("tar", ["-xzf", tarball, "--strip-components=1"], { cwd: target });
  }));
  return folder;
}

/** The versions of npm's packages that the packages of this tree need, as a folder's map has them. */
async function packagesOf(folder: string): Promise<Record<string, string>> {
  const { imports } = JSON.parse(await Deno.readTextFile(join(root, folder, "deno.json")));
  return Object.fromEntries(
    Object.entries<string>(imports ?? {})
      .filter(([name]) => folder === "" ? NEEDED.includes(name) : !name.endsWith("/"))
      .map(([name, target]) => [name, target.replace(/^.*@/, "")]),
  );
}
