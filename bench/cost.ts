/**
 * What the cache module costs whoever takes it: lines of code, and what its packages weigh.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** One package that the module brings. */
export interface PackageCost {
  /** Name and version. */
  readonly name: string;
  /** Its unpacked files. */
  readonly kib: number;
}

/** What the module costs. */
export interface ModuleCost {
  /** Its files. */
  readonly files: number;
  /** Its lines, without blank ones and comments. */
  readonly lines: number;
  /** Its packages and theirs. */
  readonly packages: readonly PackageCost[];
}

interface NpmPackage {
  readonly name: string;
  readonly version: string;
  readonly dependencies: readonly string[];
}

interface ModuleInfo {
  readonly modules: readonly { readonly kind: string; readonly npmPackage?: string }[];
  readonly npmPackages: Readonly<Record<string, NpmPackage>>;
}

const root = fileURLToPath(new URL("../", import.meta.url));

/** Counts the lines of `cache/`, and weighs its packages as Deno has unpacked them. */
export async function moduleCost(): Promise<ModuleCost> {
  let files = 0;
  let lines = 0;
  for await (const { name } of Deno.readDir(join(root, "cache"))) {
    if (!name.endsWith(".ts")) continue;
    files++;
    lines += codeLines(await Deno.readTextFile(join(root, "cache", name)));
  }
  const info: ModuleInfo = await denoInfo(["cache/mod.ts"]);
  const { npmCache }: { npmCache: string } = await denoInfo([]);
  const packages = await Promise.all(
    packagesOf(info).map(async ({ name, version }) => ({
      name: `${name}@${version}`,
      kib: await folderBytes(await cachedFolder(npmCache, join(name, version))) / 1024,
    })),
  );
  return { files, lines, packages: packages.toSorted((a, b) => b.kib - a.kib) };
}

/** Deno keeps packages by the registry they came from, whichever this machine uses. */
async function cachedFolder(npmCache: string, folder: string): Promise<string> {
  for await (const { name, isDirectory } of Deno.readDir(npmCache)) {
    const path = join(npmCache, name, folder);
    if (isDirectory && await isFolder(path)) return path;
  }
  throw new Error(`Cannot weigh ${folder}: it is not in Deno's cache`);
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** The packages that the modules import, and those that these need. */
function packagesOf({ modules, npmPackages }: ModuleInfo): NpmPackage[] {
  const found = new Map<string, NpmPackage>();
  const ids = modules.flatMap(({ npmPackage }) => npmPackage ?? []);
  for (let id = ids.pop(); id !== undefined; id = ids.pop()) {
    const npmPackage = npmPackages[id];
    if (npmPackage === undefined || found.has(id)) continue;
    found.set(id, npmPackage);
    ids.push(...npmPackage.dependencies);
  }
  return [...found.values()];
}

/** Whole-line comments are all that the code has, but for a few at the end of a line. */
function codeLines(text: string): number {
  return text.replace(/\/\*[\s\S]*?\*\//g, "").split("\n")
    .filter((line) => line.trim() !== "" && !line.trim().startsWith("//")).length;
}

async function denoInfo<T>(args: readonly string[]): Promise<T> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", ...args],
    cwd: root,
  }).output();
  return JSON.parse(new TextDecoder().decode(stdout));
}

async function folderBytes(folder: string): Promise<number> {
  let bytes = 0;
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = join(folder, name);
    bytes += isDirectory ? await folderBytes(path) : (await Deno.stat(path)).size;
  }
  return bytes;
}
