import { assert, assertEquals, assertGreater } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { build, type Plugin, stop } from "esbuild";
import { join } from "node:path";
import { countTests } from "../../tools/junit.ts";
import { pack } from "../../tools/pack.ts";
import { install, run, runtimeProgram } from "../../tests/support/installed.ts";
import { projectRoot } from "../../tests/support/source_tree.ts";
import { requiredEnv } from "../../tests/support/test_database.ts";

/** The oldest Node that the packages promise to run on. */
const NODE_MIN = 22;

/** A program of a user with types that hold, and a mistake that the types must see. */
const CONSUMER = `
import { Cache, type Loader, LoadTimeoutError } from "@lookaside/cache";
const load: Loader<{ total: number }> = ({ signal }) =>
  signal.aborted ? Promise.reject(new LoadTimeoutError()) : Promise.resolve({ total: 1 });
await using cache = new Cache({ url: "memory:", ttlMs: 1 });
const total: number | undefined = (await cache.getOrLoad("a", load, { tags: ["b"] })).value()?.total;
console.log(total, cache.stats().memory.hits);
// @ts-expect-error Values are typed.
const text: string = (await cache.getOrLoad("a", load)).value()?.total;
console.log(text);
`;

/** The oldest ioredis that the package promises to run on, beside that of the suite. */
const IOREDIS_MIN = "5.5.0";

/** The file names of the package that leave the package's own folder, or are sources. */
const STRAY = /^(?!package\/[a-z_/]+\.(js|d\.ts)$|package\/(package\.json|README\.md|LICENSE)$)/;

describe("the package for Node", () => {
  let folder = "";
  let node = "";
  let oldest = "";

  beforeAll(async () => {
    folder = await install({ "@lookaside/cache": "*" });
    oldest = await install({ "@lookaside/cache": "*", ioredis: IOREDIS_MIN });
    ({ command: node } = await runtimeProgram(`node@${NODE_MIN}`, folder));
  });

  afterAll(async () => {
    for (const each of [folder, oldest]) await Deno.remove(each, { recursive: true });
  });

  it("holds the compiled cache with its types, README and licence, and nothing else", async () => {
    const tarball = await pack("cache", folder);
    const files = (await run("tar", ["-tzf", tarball], { cwd: folder })).trim().split("\n")
      .filter((file) => !file.endsWith("/"));
    assertEquals(files.filter((file) => STRAY.test(file)), []);
    for (const name of ["mod.js", "mod.d.ts", "README.md", "LICENSE"]) {
      assert(files.includes(`package/${name}`), name);
    }
  });

  it("asks for the packages that the suite runs on, and for the program's own ioredis", async () => {
    const { imports } = JSON.parse(await Deno.readTextFile(join(projectRoot, "deno.json")));
    const installed = join(folder, "node_modules/@lookaside/cache/package.json");
    const { dependencies, peerDependencies } = JSON.parse(await Deno.readTextFile(installed));
    assertEquals(dependencies, { "lru-cache": imports["lru-cache"].replace(/^.*@/, "^") });
    assertEquals(peerDependencies.ioredis.split(" ")[0], `>=${IOREDIS_MIN.replace(/\.0$/, "")}`);
  });

  it("exports what cache/mod.ts does", async () => {
    const script = 'import("@lookaside/cache").then((all) => console.log(Object.keys(all).join()))';
    const exported = (await run(node, ["--eval", script], { cwd: folder })).trim();
    assertEquals(exported, Object.keys(await import("../../cache/mod.ts")).join());
  });

  it("has types that a program is checked against", async () => {
    await Deno.writeTextFile(join(folder, "consumer.ts"), CONSUMER);
    await run(Deno.execPath(), ["check", "--no-lock", "consumer.ts"], { cwd: folder });
  });

  it("keeps every promise of the cache, against Redis and without, with either ioredis", async () => {
    const places = [folder, oldest];
    for (const place of places) await bundleSuite(join(place, "suite.mjs"));
    await Promise.all(places.map(async (place) => {
      const report = await run(
        node,
        ["--test", "--test-reporter=junit", "--test-timeout=100000", "suite.mjs"],
        { cwd: place, env: { REDIS_URL: requiredEnv("REDIS_URL") } },
      );
      const { passed, failed, skipped } = countTests(report);
      assertEquals({ failed, skipped }, { failed: 0, skipped: 0 }, report);
      assertGreater(passed, 50, report);
    }));
  });
});

/** One file that the oldest Node can run: everything but the package, in the JavaScript of that time. */
async function bundleSuite(outfile: string): Promise<void> {
  const onePackage: Plugin = {
    name: "the package in place of its source",
    setup({ onResolve }) {
      onResolve({ filter: /\/cache\/mod\.ts$/ }, () => ({
        path: "@lookaside/cache",
        external: true,
      }));
    },
  };
  try {
    await build({
      entryPoints: [join(projectRoot, "proof/packages/_node_suite.ts")],
      outfile,
      bundle: true,
      format: "esm",
      platform: "node",
      target: `node${NODE_MIN}`,
      alias: {
        "@std/assert": join(projectRoot, "tests/std/assert.ts"),
        "@std/testing/bdd": "node:test",
      },
      plugins: [onePackage],
      logLevel: "silent",
    });
  } finally {
    await stop();
  }
}
