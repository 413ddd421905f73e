import { join, relative, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { sourceFiles } from "../../tools/source_files.ts";

/** One import or re-export, static or not, of values or of types. */
export interface Import {
  /** As it is written. */
  readonly specifier: string;
  /** The project file it leads to, as a path below the root; absent for everything else. */
  readonly target?: string;
}

/** A source file. */
export interface Module {
  /** Its path below the root. */
  readonly path: string;
  /** Its text. */
  readonly text: string;
  /** What it imports. */
  readonly imports: readonly Import[];
}

interface ModuleGraph {
  readonly modules: readonly {
    readonly specifier: string;
    readonly dependencies?: readonly {
      readonly specifier: string;
      readonly code?: { readonly specifier?: string };
      readonly type?: { readonly specifier?: string };
    }[];
  }[];
}

/** The root of the project. */
export const projectRoot: string = resolve(import.meta.dirname ?? ".", "../..");

/** Reads every source file of the project (but of `bench/`), with Deno's own idea of its imports. */
export async function readSourceTree(): Promise<Module[]> {
  const paths = (await sourceFiles(projectRoot)).filter((path) => !path.startsWith("bench/"));
  const imports = await readImports(paths);
  return await Promise.all(paths.map(async (path) => ({
    path,
    text: await Deno.readTextFile(join(projectRoot, path)),
    imports: imports.get(path) ?? [],
  })));
}

async function readImports(paths: readonly string[]): Promise<Map<string, Import[]>> {
  const directory = await Deno.makeTempDir({ prefix: "lookaside_tree_" });
  try {
    const entry = join(directory, "entry.ts");
    const lines = paths.map((path) => `import "${pathToFileURL(join(projectRoot, path)).href}";\n`);
    await Deno.writeTextFile(entry, lines.join(""));
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", "--no-lock", `--config=${join(projectRoot, "deno.json")}`, entry],
    }).output();
    const decoder = new TextDecoder();
    if (!success) throw new Error(`Cannot read the imports: ${decoder.decode(stderr)}`);
    return importsOf(JSON.parse(decoder.decode(stdout)));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function importsOf(graph: ModuleGraph): Map<string, Import[]> {
  return new Map(graph.modules.map(({ specifier, dependencies = [] }) => [
    projectPath(specifier) ?? specifier,
    dependencies.map((dependency) => {
      const target = projectPath(dependency.code?.specifier ?? dependency.type?.specifier ?? "");
      return { specifier: dependency.specifier, ...(target === undefined ? {} : { target }) };
    }),
  ]));
}

function projectPath(specifier: string): string | undefined {
  if (!specifier.startsWith("file:")) return undefined;
  const path = relative(projectRoot, fileURLToPath(specifier));
  return path.startsWith("..") ? undefined : path;
}
