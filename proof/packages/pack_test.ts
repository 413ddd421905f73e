/**
 * The packages as a program of a user has them: with its compiler, and by `import` and `require`.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { join } from "node:path";
import { pack } from "../../tools/pack.ts";
import { install, run, runtimeProgram, RUNTIMES } from "../../tests/support/installed.ts";

/** A program with types that hold, and mistakes that the types must see. */
const PROGRAM = `
import { Cache, type Codec, type Loader, SchemaError } from "@lookaside/cache";
import { dashboard, nodeHandler } from "@lookaside/cache/dashboard";
import { cached } from "@lookaside/cache/hono";
import { TracedCache } from "@lookaside/cache/opentelemetry";
import { collect } from "@lookaside/cache/prometheus";
import { postgresChanges, table } from "@lookaside/changes";
import { withCache } from "@lookaside/drizzle";
import { drizzle } from "drizzle-orm/node-postgres";
import { integer, pgTable } from "drizzle-orm/pg-core";
import { Hono } from "hono";
import pg from "pg";
import { Registry } from "prom-client";

const pool = new pg.Pool({ max: 1 });
const cache = new TracedCache({ url: "memory:" });
const registry = new Registry();
collect(registry, cache);
export const changed = (): Cache => new Cache({ changes: postgresChanges(pool) });
const load: Loader<{ at: Date }> = () => Promise.resolve({ at: new Date(5) });
const at: string | undefined = (await cache.getOrLoad("a", load)).value()?.at;
const codec: Codec<{ at: Date }> = {
  stringify: ({ at }) => String(at.getTime()),
  parse: (text) => ({ at: new Date(Number(text)) }),
};
const date: Date | undefined = (await cache.getOrLoad("b", load, { codec })).value()?.at;
// @ts-expect-error JSON has no dates.
const wrong: Date | undefined = (await cache.getOrLoad("a", load)).value()?.at;
const orders = pgTable("orders", { id: integer().primaryKey() });
const db = withCache(drizzle({ client: pool }), cache, { ttlMs: 1 });
export const ids = async (): Promise<number[]> =>
  (await db.select().from(orders).$withCache()).map(({ id }) => id);
// @ts-expect-error Rows are typed.
export const names = async () => (await db.select().from(orders)).map(({ name }) => name);
const app = new Hono().get("/", cached(cache), (context) => context.json(1));
const { status } = await app.request("/");
const shown = dashboard(cache, { open: true });
export const handler = nodeHandler(shown);
const script = await (await shown.request("/dashboard/uplot.js")).text();
console.log("import", at, date?.getTime(), typeof wrong, typeof table, status, new SchemaError().name);
console.log((await registry.metrics()).match(/^lookaside_loads_total .*$/m)?.[0], script.slice(0, 37));
await cache.close();
`;

const REQUIRED = `
const { Cache } = require("@lookaside/cache");
const { dashboard } = require("@lookaside/cache/dashboard");
const { cached } = require("@lookaside/cache/hono");
const { TracedCache } = require("@lookaside/cache/opentelemetry");
const { collect } = require("@lookaside/cache/prometheus");
const { table } = require("@lookaside/changes");
const { withCache } = require("@lookaside/drizzle");
const cache = new Cache();
cache.getOrLoad("a", () => Promise.resolve(1)).then(async (found) => {
  console.log("require", found.value(), typeof cached, typeof table, typeof withCache);
  console.log(typeof TracedCache, typeof collect, typeof dashboard);
  await cache.close();
});
`;

const COMPILER_OPTIONS = {
  strict: true,
  module: "nodenext",
  target: "es2024",
  types: ["node"],
  lib: ["es2024", "esnext.disposable", "dom"],
  skipLibCheck: false,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
};

describe("the packages", () => {
  let folder = "";
  beforeAll(async () => {
    folder = await install({
      "@lookaside/cache": "*",
      "@lookaside/changes": "*",
      "@lookaside/drizzle": "*",
      "drizzle-orm": "^0.45.0",
      "hono": "^4.13.0",
      "pg": "^8.16.0",
      "@opentelemetry/api": "^1.9.0",
      "prom-client": "^15.1.0",
      "typescript": "^7.0.2",
      "@types/node": "^22.0.0",
      "@types/pg": "^8.16.0",
    });
    await Deno.writeTextFile(join(folder, "program.mts"), PROGRAM);
    await Deno.writeTextFile(join(folder, "program.cjs"), REQUIRED);
    const config = { compilerOptions: COMPILER_OPTIONS, files: ["program.mts"] };
    await Deno.writeTextFile(join(folder, "tsconfig.json"), JSON.stringify(config));
  });
  afterAll(() => Deno.remove(folder, { recursive: true }));

  it("say what they are, what they need, and where their source is", async () => {
    const temporary = await Deno.makeTempDir();
    const out = join(temporary, "made", "for it");
    const repository = "https://git.example/lookaside.git";
    const tarball = await pack("changes", out, repository);
    await run("tar", ["-xzf", tarball], { cwd: out });
    const manifest = JSON.parse(await Deno.readTextFile(join(out, "package/package.json")));
    await Deno.remove(temporary, { recursive: true });
    assertEquals(manifest.repository, {
      type: "git",
      url: `git+${repository}`,
      directory: "changes",
    });
    assertEquals([manifest.license, manifest.engines], ["MIT", { node: ">=22.15" }]);
    assert(manifest.description.length > 20 && manifest.keywords.length > 3);
  });

  it("have types that TypeScript finds nothing wrong with", async () => {
    const { command } = await runtimeProgram("node@22", folder);
    const { stdout } = await new Deno.Command(command, {
      args: ["node_modules/typescript/bin/tsc", "--pretty", "false"],
      cwd: folder,
    }).output();
    const lines = new TextDecoder().decode(stdout).split("\n").filter((line) => /^\S/.test(line));
    // Drizzle's own types are not meant to be looked at.
    assertEquals(lines.filter((line) => !line.startsWith("node_modules/drizzle-orm/")), []);
    assertMatch(await Deno.readTextFile(join(folder, "program.mjs")), /getOrLoad/);
  });

  for (const runtime of RUNTIMES) {
    it(`are imported and required by ${runtime}`, async () => {
      const { command, args } = await runtimeProgram(runtime, folder);
      assertEquals(
        await run(command, [...args, "program.mjs"], { cwd: folder }),
        "import 1970-01-01T00:00:00.005Z 5 string function 200 SchemaError\n" +
          "lookaside_loads_total 3 /*! https://github.com/leeoniya/uPlot\n",
      );
      assertEquals(
        await run(command, [...args, "program.cjs"], { cwd: folder }),
        "require 1 function function function\nfunction function function\n",
      );
    });
  }
});
