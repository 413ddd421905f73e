/**
 * The rules that keep the tree what it says it is. Each takes the source files and answers what breaks
 * it, one line each.
 *
 * @module
 */
import { basename, dirname } from "node:path";
import { assertNames, bddNames } from "./std_names.ts";
import type { Module } from "./source_tree.ts";

/** A rule: what of these files breaks it. */
export type Rule = (modules: readonly Module[]) => string[];

const library = /^(adapters|cache|changes|db|routes|web)\//;
const runtime = /^(cache|changes|db)\/runtime\.ts$/;
const entryPoint = /^(main\.ts|seed\.ts|tools\/|tests\/|proof\/)/;
/** Entry points, and what main.ts is composed with. */
const composition = /^(main\.ts|server\/|seed\.ts|tools\/|tests\/|proof\/)/;
const cachePackages = new Set(["ioredis", "lru-cache"]);
/** The packages that one folder of `cache/` may know, because only programs that have them import it. */
const cacheFolderPackages: Readonly<Record<string, RegExp | undefined>> = {
  dashboard: /^(hono|uplot)(\/|$)/,
  hono: /^hono$/,
  opentelemetry: /^@opentelemetry\/api$/,
  prometheus: /^prom-client$/,
};
const cacheRoot = /^cache\/[^/]+$/;
/** The files that put an engine together, and the list of exports. */
const cacheAssembly = new Set(["cache/engine.ts", "cache/cache.ts", "cache/mod.ts"]);
const cacheEntrance = /^cache\/((\w+\/)?mod|topologies\/open)\.ts$/;

/** What each rule says, and the rule. */
export const rules: Readonly<Record<string, Rule>> = {
  "cache/ imports nothing but itself, ioredis, lru-cache, Node's own modules and, in its folder, a peer":
    (modules) =>
      importsThat(
        modules,
        (from, specifier, target) =>
          from.startsWith("cache/") && !(target?.startsWith("cache/") ?? false) &&
          !cachePackages.has(specifier) && !specifier.startsWith("node:") &&
          !cacheFolderPackages[from.split("/")[1] ?? ""]?.test(specifier),
      ),
  "the root of cache/ knows neither ioredis nor, but where an engine is put together, its folders":
    (
      modules,
    ) =>
      importsThat(
        modules,
        (from, specifier, target = "") =>
          cacheRoot.test(from) &&
          (specifier === "ioredis" ||
            (/^cache\/\w+\//.test(target) && !cacheAssembly.has(from)) ||
            cacheFolderPackages[target.split("/")[1] ?? ""] !== undefined),
      ),
  "of cache/ the service imports each mod.ts, and topologies/open.ts for a connection of its own": (
    modules,
  ) =>
    importsThat(
      modules,
      (from, _, target = "") =>
        target.startsWith("cache/") && !/^(cache|tools|tests|proof|bench)\//.test(from) &&
        !cacheEntrance.test(target),
    ),
  "adapters/ import the packages by their names, as a stranger would": (modules) =>
    importsThat(
      modules,
      (from, _, target = "") =>
        from.startsWith("adapters/") && target !== "" && !target.startsWith("adapters/") &&
        !/^(cache|changes)\/mod\.ts$/.test(target),
    ),
  "db/ imports neither cache/ nor routes/": (modules) =>
    importsThat(
      modules,
      (from, _, target = "") => from.startsWith("db/") && /^(cache|routes)\//.test(target),
    ),
  "config.ts is imported by entry points and tests alone": (modules) =>
    importsThat(
      modules,
      (from, _, target) => target === "server/config.ts" && !composition.test(from),
    ),
  "no service code imports tools/ or tests/": (modules) =>
    importsThat(
      modules,
      (from, _, target = "") =>
        /^(tools|tests|proof)\//.test(target) &&
        (library.test(from) || /^(server\/|main\.ts$)/.test(from)),
    ),
  "a private file is imported from its own folder alone": (modules) =>
    importsThat(
      modules,
      (from, _, target) =>
        target !== undefined && basename(target).startsWith("_") &&
        dirname(target) !== dirname(from),
    ),
  "imports use bare names, not npm:, jsr: or http(s):": (modules) =>
    importsThat(modules, (_, specifier) => /^(npm|jsr|https?):/.test(specifier)),
  "no cycles": cycles,
  "no console in library code": (modules) =>
    codeThat(modules, (path) => library.test(path), /\bconsole\s*[.[]/),
  "time and chance come from runtime.ts in library code": (modules) =>
    codeThat(
      modules,
      (path) => library.test(path) && !runtime.test(path),
      /\b(Date\.now|performance\.now|Math\.random|setTimeout|setInterval)\b|new Date\(\)/,
    ),
  "the environment is read by entry points alone": (modules) =>
    codeThat(
      modules,
      (path) => !entryPoint.test(path) && !/^(server\/config|changes\/cli)\.ts$/.test(path),
      /\b(Deno|process)\.env\b/,
    ),
  "no catch without code or a reason": (modules) =>
    modules.filter(({ text }) => /\bcatch\s*(\([^)]*\))?\s*\{\s*\}/.test(withoutLiterals(text)))
      .map(({ path }) => path),
  "no re-export of everything outside mod.ts": (modules) =>
    codeThat(modules, (path) => basename(path) !== "mod.ts", /^export\s*\*/m),
  "SQL stands in db/ and changes/": (modules) =>
    modules.filter(({ path }) => !/^(db|changes|tests|proof)\//.test(path)).flatMap((
      { path, text },
    ) =>
      literals(text).filter((literal) => sql.test(literal)).map((literal) => `${path}: ${literal}`)
    ),
  "file names tell something": (modules) =>
    modules.map(({ path }) => path)
      .filter((path) => /^_?(utils?|helpers?|common|misc|index|types)\.ts$/.test(basename(path))),
  "npm versions stand in the import maps alone": (modules) =>
    modules.filter(({ path }) => !path.startsWith("tests/architecture"))
      .flatMap(({ path, text }) =>
        [...text.matchAll(/npm:\/?@?[\w./-]+@[\d^~]/g)].map(([found]) => `${path}: ${found}`)
      ),
  "doc comments of cache/ and changes/ name their subject, and do not begin with What, Who or Where":
    (
      modules,
    ) =>
      modules.filter(({ path }) => /^(cache|changes)\//.test(path)).flatMap(({ path, text }) =>
        [...text.matchAll(
          /\/\*\*\s*(?:\*\s*)?((?:What|Who|Whose|Whom|Where)(?:ever)?\b[^\n]{0,40})/g,
        )]
          .map(([, found]) => `${path}: ${found}`)
      ),
  "the stand-ins export only what the real packages do": (modules) =>
    modules.flatMap(({ path, text }) => {
      const real = realNames[path];
      if (!real) return [];
      return exportedNames(text).filter((name) => !real.has(name)).map((name) =>
        `${path}: ${name}`
      );
    }),
};

const sql =
  /\b(SELECT\s[\s\S]*\sFROM\s|SELECT\s+\d|INSERT\s+INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|TRUNCATE\s+\w|(CREATE|ALTER|DROP)\s+(TABLE|DATABASE|INDEX|SCHEMA)\s)/i;

const realNames: Readonly<Record<string, ReadonlySet<string> | undefined>> = {
  "tests/std/assert.ts": assertNames,
  "tests/std/bdd.ts": bddNames,
};

const exactVersion = /^npm:\/?(@[\w.-]+\/)?[\w.-]+@\d+\.\d+\.\d+(-[a-z]+\.\d+)?\/?$/;

/** An import map. */
export interface ImportMap {
  /** What each bare name stands for. */
  readonly imports: Readonly<Record<string, string>>;
}

/** Names that the two import maps give different meanings on purpose. */
const twofold = new Set(["@db/driver", "@std/assert", "@std/testing/bdd"]);

/** Names that only the JSR profile needs. */
const jsrOnly = new Set(["@db/postgres"]);

/** Versions that the members of the workspace leave open, and names whose meaning depends on the member. */
export function memberProblems(root: ImportMap, members: readonly ImportMap[]): string[] {
  const meanings = new Map(Object.entries(root.imports));
  return members.flatMap(({ imports }) =>
    Object.entries(imports).flatMap(([name, target]) => {
      if (root.imports[name] !== undefined) return [`${name}: in the root's map already`];
      const known = meanings.get(name) ?? target;
      meanings.set(name, target);
      if (known !== target) return [`${name}: ${known} against ${target}`];
      return exactVersion.test(target) ? [] : [`${name}: ${target} is no exact npm version`];
    })
  );
}

/** What sets the two import maps apart that should not, and npm versions that are not exact. */
export function importMapProblems(byDefault: ImportMap, jsr: ImportMap): string[] {
  const names = new Set([...Object.keys(byDefault.imports), ...Object.keys(jsr.imports)]);
  return [...names].flatMap((name) => {
    const here = byDefault.imports[name];
    const there = jsr.imports[name];
    if (here === undefined && jsrOnly.has(name)) return [];
    if (here === undefined || there === undefined) return [`${name}: in one map alone`];
    if (twofold.has(name)) return here === there ? [`${name}: the same in both maps`] : [];
    if (here !== there) return [`${name}: ${here} against ${there}`];
    return exactVersion.test(here) ? [] : [`${name}: ${here} is no exact npm version`];
  });
}

function importsThat(
  modules: readonly Module[],
  breaks: (from: string, specifier: string, target: string | undefined) => boolean,
): string[] {
  return modules.flatMap(({ path, imports }) =>
    imports.filter(({ specifier, target }) => breaks(path, specifier, target))
      .map(({ specifier }) => `${path} imports ${specifier}`)
  );
}

function codeThat(
  modules: readonly Module[],
  applies: (path: string) => boolean,
  banned: RegExp,
): string[] {
  return modules.filter(({ path }) => applies(path)).flatMap(({ path, text }) => {
    const found = banned.exec(codeOnly(text));
    if (!found) return [];
    const line = codeOnly(text).slice(0, found.index).split("\n").length;
    return [`${path}:${line}: ${found[0].trim()}`];
  });
}

function cycles(modules: readonly Module[]): string[] {
  const targets = new Map(
    modules.map(({ path, imports }) => [path, imports.flatMap(({ target }) => target ?? [])]),
  );
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path);
    if (at >= 0) found.push([...trail.slice(at), path].join(" > "));
    if (at >= 0 || done.has(path)) return;
    for (const target of targets.get(path) ?? []) visit(target, [...trail, path]);
    done.add(path);
  };
  for (const { path } of modules) visit(path, []);
  return found;
}

const token =
  /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\[\s\S]|[^`\\])*`/g;

/** The text with comments and the contents of literals blanked, lines kept. A heuristic. */
function codeOnly(text: string): string {
  return text.replace(token, (found) => found.replace(/[^\n]/g, " "));
}

function withoutLiterals(text: string): string {
  return text.replace(token, (found) => found.startsWith("/") ? found : "''");
}

function literals(text: string): string[] {
  return [...text.matchAll(token)].map(([found]) => found).filter((found) =>
    !found.startsWith("/")
  );
}

function exportedNames(text: string): string[] {
  const declared = text.matchAll(
    /^export\s+(?:async\s+)?(?:function|const|let|class|interface|type)\s+(\w+)/gm,
  );
  const listed = [...text.matchAll(/^export\s*\{([^}]*)\}/gm)].flatMap(([, names = ""]) =>
    names.split(",").map((name) => name.trim().split(/\s+as\s+/).at(-1) ?? "").filter(Boolean)
  );
  return [...[...declared].flatMap(([, name]) => name ?? []), ...listed];
}
