import { assertEquals, assertNotEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { join } from "node:path";
import { MUTATIONS } from "../proof/consistency/broken_tree.ts";
import { importMapProblems, memberProblems, rules } from "./support/architecture.ts";
import { type Module, projectRoot, readSourceTree } from "./support/source_tree.ts";

/** The members of the workspace with dependencies of their own. */
const MEMBERS = ["adapters/drizzle", "proof", "proof/races", "tests", "tools"];

/** For each rule, files that break it. */
const breaches: Readonly<Record<string, readonly Module[]>> = {
  "cache/ imports nothing but itself, ioredis, lru-cache, Node's own modules and, in its folder, a peer":
    [
      file("cache/a.ts", { imports: ["../db/database.ts>db/database.ts"] }),
      file("cache/reader.ts", { imports: ["hono"] }),
      file("cache/b.ts", { imports: ["zod"] }),
      file("cache/hono/c.ts", { imports: ["prom-client"] }),
    ],
  "the root of cache/ knows neither ioredis nor, but where an engine is put together, its folders":
    [
      file("cache/a.ts", { imports: ["ioredis"] }),
      file("cache/b.ts", { imports: ["./redis/feed.ts>cache/redis/feed.ts"] }),
      file("cache/mod.ts", { imports: ["./hono/mod.ts>cache/hono/mod.ts"] }),
    ],
  "of cache/ the service imports each mod.ts, and topologies/open.ts for a connection of its own": [
    file("main.ts", { imports: ["./cache/feed.ts>cache/redis/feed.ts"] }),
    file("routes/a.ts", { imports: ["../cache/runtime.ts>cache/runtime.ts"] }),
    file("routes/b.ts", { imports: ["../cache/hono/etag.ts>cache/hono/etag.ts"] }),
  ],
  "adapters/ import the packages by their names, as a stranger would": [
    file("adapters/drizzle/a.ts", { imports: ["../../changes/names.ts>changes/names.ts"] }),
  ],
  "db/ imports neither cache/ nor routes/": [
    file("db/a.ts", { imports: ["../cache/runtime.ts>cache/runtime.ts"] }),
    file("db/drivers/b.ts", { imports: ["../../routes/app.ts>routes/app.ts"] }),
  ],
  "config.ts is imported by entry points and tests alone": [
    file("routes/a.ts", { imports: ["../server/config.ts>server/config.ts"] }),
  ],
  "no service code imports tools/ or tests/": [
    file("main.ts", { imports: ["./tools/start.ts>tools/start.ts"] }),
    file("routes/a.ts", { imports: ["@std/assert>tests/std/assert.ts"] }),
  ],
  "a private file is imported from its own folder alone": [
    file("tests/routes/a_test.ts", { imports: ["../../routes/_errors.ts>routes/_errors.ts"] }),
  ],
  "imports use bare names, not npm:, jsr: or http(s):": [
    file("db/a.ts", { imports: ["npm:postgres"] }),
    file("db/b.ts", { imports: ["jsr:@db/postgres"] }),
    file("db/c.ts", { imports: ["https://example.com/mod.ts"] }),
  ],
  "no cycles": [
    file("db/a.ts", { imports: ["./b.ts>db/b.ts"] }),
    file("db/b.ts", { imports: ["./a.ts>db/a.ts"] }),
  ],
  "no console in library code": [file("routes/a.ts", { text: "console.log(1);" })],
  "time and chance come from runtime.ts in library code": [
    file("cache/a.ts", { text: "const a = Date.now();" }),
    file("cache/b.ts", { text: "const a = new Date();" }),
    file("db/c.ts", { text: "setTimeout(run, 5);" }),
    file("routes/d.ts", { text: "Math.random();" }),
  ],
  "the environment is read by entry points alone": [
    file("cache/a.ts", { text: 'Deno.env.get("A");' }),
    file("db/b.ts", { text: "process.env.A;" }),
  ],
  "no catch without code or a reason": [
    file("db/a.ts", { text: "try { a(); } catch {}" }),
    file("tools/b.ts", { text: "try { a(); } catch (_) {\n}" }),
  ],
  "no re-export of everything outside mod.ts": [
    file("cache/all.ts", { text: 'export * from "./cache.ts";' }),
  ],
  "SQL stands in db/ and changes/": [
    file("routes/a.ts", { text: "query(`\n  SELECT id\n  FROM users`);" }),
    file("tools/b.ts", { text: 'query("delete from users where id = 1");' }),
    file("main.ts", { text: "query('SELECT 1');" }),
  ],
  "file names tell something": [file("db/utils.ts"), file("cache/index.ts")],
  "npm versions stand in the import maps alone": [
    file("tools/a.ts", { text: 'const a = ["run", "npm:autocannon@9.0.0"];' }),
  ],
  "doc comments of cache/ and changes/ name their subject, and do not begin with What, Who or Where":
    [
      file("cache/a.ts", { text: "/** What it does. */" }),
      file("changes/b.ts", { text: "/**\n * Where it is: there.\n */" }),
    ],
  "the stand-ins export only what the real packages do": [
    file("tests/std/assert.ts", { text: "export function assertMagic(): void {}" }),
    file("tests/std/bdd.ts", { text: "export { retry };" }),
  ],
};

/** Files that look like breaches and are none. */
const innocents: readonly Module[] = [
  file("cache/redis/a.ts", { imports: ["../b.ts>cache/b.ts", "ioredis"] }),
  file("cache/engine.ts", { imports: ["./redis/a.ts>cache/redis/a.ts"] }),
  file("cache/prometheus/a.ts", { imports: ["prom-client", "../b.ts>cache/b.ts"] }),
  file("routes/b.ts", { imports: ["../cache/hono/mod.ts>cache/hono/mod.ts"] }),
  file("cache/a.ts", {
    imports: ["./b.ts>cache/b.ts", "lru-cache", "node:zlib"],
    text: '// console.log, Date.now()\nconst a = "Math.random() and console.log";',
  }),
  file("cache/b.ts", { text: "try { a(); } catch (error) { emit(error); }" }),
  file("cache/c.ts", { text: "try { a(); } catch {\n  // It's closed already.\n}" }),
  file("cache/mod.ts"),
  file("tools/a.ts", { imports: ["../cache/b.ts>cache/b.ts"] }),
  file("cache/runtime.ts", { text: "const now = () => Date.now();" }),
  file("main.ts", {
    imports: ["./server/config.ts>server/config.ts", "./cache/mod.ts>cache/mod.ts"],
    text: 'Deno.env.get("A"); say("update the page, delete a user");',
  }),
  file("db/a.ts", { imports: ["./_b.ts>db/_b.ts"], text: 'query("SELECT 1");' }),
  file("db/_b.ts"),
  file("tests/std/assert.ts", { text: "export function assertEquals(): void {}" }),
];

describe("the source tree", () => {
  for (const [name, rule] of Object.entries(rules)) {
    it(`keeps the rule: ${name}`, async () => {
      assertEquals(rule(await tree()), []);
    });
  }

  it("is read whole, imports included", async () => {
    const self = (await tree()).find(({ path }) => path === "tests/architecture_test.ts");
    assertEquals(
      self?.imports.find(({ specifier }) => specifier === "./support/architecture.ts")?.target,
      "tests/support/architecture.ts",
    );
  });

  it("has two import maps that agree on every npm version", async () => {
    const [byDefault, jsr] = await Promise.all(
      ["deno.json", "import_map.jsr.json"].map(async (name) =>
        JSON.parse(await Deno.readTextFile(join(projectRoot, name)))
      ),
    );
    assertEquals(importMapProblems(byDefault, jsr), []);
  });

  it("has dependencies of tests and tools in their own maps, with exact versions", async () => {
    const [root, ...members] = await Promise.all(
      ["deno.json", ...MEMBERS.map((name) => `${name}/deno.json`)].map(async (name) =>
        JSON.parse(await Deno.readTextFile(join(projectRoot, name)))
      ),
    );
    assertEquals(memberProblems(root, members), []);
    const tree = await readSourceTree();
    const used = new Set(
      tree.filter(({ path }) => !/^(proof|tests|tools)\//.test(path))
        .flatMap(({ imports }) => imports.map(({ specifier }) => specifier)),
    );
    // A program other than the service brings `pg` to the changes module; what has two meanings has to stay.
    const ofTests = Object.keys(root.imports).filter((name) => !/^@std\/|^pg$/.test(name))
      .filter((name) => ![...used].some((each) => each === name || each.startsWith(`${name}/`)))
      .filter((name) => !name.endsWith("/"));
    assertEquals(ofTests, []);
  });
});

describe("the mutations that the consistency checker must see", () => {
  for (const [name, { file, from }] of Object.entries(MUTATIONS)) {
    it(`fit the source: ${name}`, async () => {
      const module = (await tree()).find(({ path }) => path === file);
      assertEquals(module?.text.split(from).length, 2, file);
    });
  }
});

describe("the rules", () => {
  for (const [name, rule] of Object.entries(rules)) {
    it(`see each breach of: ${name}`, () => {
      const bad = breaches[name] ?? [];
      assertNotEquals(bad.length, 0);
      const found = rule(bad).join("\n");
      // A cycle is one finding that names every file in it.
      assertEquals(bad.filter(({ path }) => !found.includes(path)).map(({ path }) => path), []);
    });
    it(`see no breach in innocent files of: ${name}`, () => {
      assertEquals(rule(innocents), []);
    });
  }

  it("see import maps that disagree, lack a name or leave a version open", () => {
    const imports = { hono: "npm:hono@4.13.19", "@std/assert": "./tests/std/assert.ts" };
    const real = { ...imports, "@std/assert": "jsr:@std/assert@^1" };
    assertEquals(importMapProblems({ imports }, { imports: real }), []);
    const broken = [
      { ...real, hono: "npm:hono@4.13.18" },
      { ...real, zod: "npm:zod@4.6.7" },
      { "@std/assert": "jsr:@std/assert@^1" },
      { ...real, "@std/assert": imports["@std/assert"] },
    ];
    for (const map of broken) {
      assertEquals(importMapProblems({ imports }, { imports: map }).length, 1);
    }
    const member = (target: string) => memberProblems({ imports }, [{ imports: { yaml: target } }]);
    assertEquals(member("npm:yaml@2.9.1"), []);
    assertEquals(member("npm:yaml@^2").length, 1);
    assertEquals(memberProblems({ imports }, [{ imports: { hono: imports.hono } }]).length, 1);
    const open = { hono: "npm:hono@^4" };
    assertEquals(importMapProblems({ imports: open }, { imports: open }).length, 1);
  });
});

let read: Promise<Module[]> | undefined;

/** The tree, read once. */
function tree(): Promise<Module[]> {
  return read ??= readSourceTree();
}

/** A made-up file. Imports of the project's own files are written `specifier>target`. */
function file(path: string, content: { text?: string; imports?: string[] } = {}): Module {
  const imports = (content.imports ?? []).map((item) => {
    const [specifier = "", target] = item.split(">");
    return target === undefined ? { specifier } : { specifier, target };
  });
  return { path, text: content.text ?? "", imports };
}
