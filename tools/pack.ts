// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task pack`: the packages for npm, as tarballs. `deno pack` compiles them. This adds the fields for npm,
 * and replaces imports of files as text, which only Deno supports, by the text.
 *
 * @module
 */
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
// For its texts from npm: without a lock file, a dynamic import finds only packages that are in the graph.
import "../cache/dashboard/mod.ts";
import { ROOT } from "./child_process.ts";
import { readOptions } from "./command_line.ts";
import { sourceFiles } from "./source_files.ts";

const COMMAND = {
  name: "deno task pack",
  help: `deno task pack [OPTION…]

Builds the npm packages as tarballs.

  --out DIRECTORY   where to put the tarballs, made if it is missing; default: the current folder
  --repository URL  where the source is, for npm to show and to check the provenance against; default: the
                    remote "origin" of this clone, if it is on the web`,
  options: { out: { type: "string" }, repository: { type: "string" } },
} as const;

/** The part of a package.json that `deno pack` does not write. */
interface Manifest {
  readonly [field: string]: unknown;
  /** Packages that the program itself must have. */
  readonly peerDependencies?: Readonly<Record<string, string>>;
  /** Dependencies besides those that `deno pack` finds. */
  readonly dependencies?: Readonly<Record<string, string>>;
}

/** The package that depends on exactly the versions that it reports results for. */
const RACES = "proof/races";

/** The packages, by folder. */
const packages: Readonly<Record<string, Manifest>> = {
  cache: {
    description: "A cache over memory and Redis that is never stale: fenced, coherent, tagged",
    keywords: ["cache", "redis", "cache-aside", "invalidation", "stampede", "tags"],
    peerDependencies: {
      "@opentelemetry/api": "^1.9.0",
      "hono": ">=4",
      "ioredis": ">=5.5 <7",
      "prom-client": "^15.0.0",
    },
    peerDependenciesMeta: {
      "@opentelemetry/api": { optional: true },
      "hono": { optional: true },
      "prom-client": { optional: true },
    },
  },
  changes: {
    description: "Postgres tells your cache what changed, whoever wrote it",
    keywords: ["postgres", "postgresql", "cache", "invalidation", "cdc", "outbox", "triggers"],
    bin: { "lookaside-changes": "cli.js" },
    peerDependencies: { "@lookaside/cache": "^0.1.0" },
  },
  "adapters/drizzle": {
    description: "Drizzle's queries from a cache that is never stale, whoever writes",
    keywords: ["drizzle", "drizzle-orm", "cache", "postgres", "redis", "invalidation"],
    peerDependencies: {
      "@lookaside/cache": "^0.1.0",
      "@lookaside/changes": "^0.1.0",
      "drizzle-orm": ">=0.44 <2",
    },
  },
  [RACES]: {
    description:
      "Races caches through the interleavings that make them stale, on a real Redis and Postgres",
    keywords: ["cache", "redis", "postgres", "stale", "race-condition", "test"],
    bin: { "lookaside-races": "main.js" },
    dependencies: {
      "@lookaside/cache": "^0.1.0",
      "@lookaside/changes": "^0.1.0",
      "@upstash/redis": "1.39.0", // Drizzle's cache imports it
    },
  },
};

/** An import of a file as text, as it is compiled. */
const TEXT_IMPORT = /\bimport (\w+) from "([^"]+)" with \{\s*type: "text"\s*\};/g;

/** The common fields of all of them. */
const common = { engines: { node: ">=22.15" }, publishConfig: { access: "public" } };

if (import.meta.main) {
  const { out = ".", repository = await origin() } = readOptions(COMMAND, Deno.args);
  for (const folder of Object.keys(packages)) {
    console.log(await pack(folder, resolve(out), repository));
  }
}

/** Packs one package into a directory. Answers the path of the tarball. */
export async function pack(folder: string, out: string, repository?: string): Promise<string> {
  const work = await Deno.makeTempDir({ prefix: "lookaside_pack_" });
  try {
    const raw = resolve(work, "raw.tgz");
    const options = ["--quiet", "--allow-dirty", "--no-source-maps", "--output", raw];
    await run(Deno.execPath(), ["pack", ...options], resolve(ROOT, folder));
    await run("tar", ["-xzf", raw], work);
    const path = resolve(work, "package/package.json");
    const written = JSON.parse(await Deno.readTextFile(path));
    const own = packages[folder];
    if (own === undefined) throw new TypeError(`Cannot pack ${folder}: it is no package`);
    const found = Object.entries<string>(written.dependencies ?? {}).map((
      [name, range],
    ) => [name, folder === RACES ? range.replace("^", "") : range]);
    const dependencies = { ...Object.fromEntries(found), ...own.dependencies };
    const inlined = await inlineTexts(resolve(work, "package"), resolve(ROOT, folder));
    for (const peer of Object.keys(own.peerDependencies ?? {})) delete dependencies[peer];
    for (const name of inlined) delete dependencies[name];
    const source = repository === undefined
      ? {}
      : { repository: { type: "git", url: `git+${repository}`, directory: folder } };
    const whole = { ...written, ...common, ...source, ...own, dependencies };
    await Deno.writeTextFile(path, `${JSON.stringify(whole, null, 2)}\n`);
    const name = written.name.replace("@", "").replace("/", "-");
    await Deno.mkdir(out, { recursive: true });
    const tarball = resolve(out, `${name}-${written.version}.tgz`);
    await run("tar", ["-czf", tarball, "package"], work);
    return tarball;
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

/** The web address of this clone's origin; `undefined`: there is none. */
async function origin(): Promise<string | undefined> {
  const { stdout } = await new Deno.Command("git", {
    args: ["-C", ROOT, "remote", "get-url", "origin"],
    stderr: "null",
  }).output();
  const url = new TextDecoder().decode(stdout).trim();
  const [, host, path] =
    /^(?:https:\/\/|ssh:\/\/git@|git@)([\w.-]+)[:/](.+?)(?:\.git)?$/.exec(url) ?? [];
  return host === undefined ? undefined : `https://${host}/${path}.git`;
}

/**
 * Replaces the text imports of a package's modules by the texts. Answers the npm packages of these files, which
 * are then no longer dependencies.
 */
async function inlineTexts(packed: string, source: string): Promise<Set<string>> {
  const packages = new Set<string>();
  const files = new Set<string>();
  for (const path of await sourceFiles(packed, ".js")) {
    const module = join(packed, path);
    let text = await Deno.readTextFile(module);
    for (const [found, name, specifier = ""] of [...text.matchAll(TEXT_IMPORT)]) {
      const isOwn = specifier.startsWith(".");
      const file = join(dirname(path), specifier);
      const from = isOwn ? pathToFileURL(join(source, file)).href : specifier;
      const { default: content } = await import(from, { with: { type: "text" } });
      if (isOwn) files.add(file);
      else packages.add(specifier.split("/")[0] ?? "");
      text = text.replace(found, () => `const ${name} = ${JSON.stringify(content)};`);
    }
    await Deno.writeTextFile(module, text);
  }
  for (const file of files) await Deno.remove(join(packed, file));
  return packages;
}

async function run(command: string, args: readonly string[], cwd: string): Promise<void> {
  const { success, stderr } = await new Deno.Command(command, { args: [...args], cwd }).output();
  if (!success) throw new Error(`Cannot run ${command}: ${new TextDecoder().decode(stderr)}`);
}
