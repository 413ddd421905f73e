import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { adaptersOf } from "../races/adapters.ts";
import { historiesOf } from "../races/report.ts";
import { type RaceResult, runRaces } from "../races/run.ts";
import { send } from "../../tools/child_process.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { install, runtimeProgram } from "../../tests/support/installed.ts";
import { requiredEnv } from "../../tests/support/test_database.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** What the recipe answers; a library that also keeps values in memory is stale in one race more. */
const RECIPE = {
  "a delete lands during a load": "stale",
  "the same, by another instance": "stale",
  "a reader joins an older look-up": "fresh",
  "the feed is lost around a delete": "fresh",
  "two processes miss together": "2 loads",
  "a write bypasses the application": "stale",
  "Redis restarts from an old file": "stale",
};

describe("runRaces()", () => {
  it("finds the recipe and a library stale where they are, and Lookaside never", async () => {
    const results = await runRaces(await adaptersOf(["recipe", "layered-loader", "lookaside"]));
    const told = historiesOf(results);
    assertEquals(outcomesOf(results, "the recipe"), RECIPE, told);
    assertEquals(outcomesOf(results, "layered-loader"), {
      ...RECIPE,
      "the feed is lost around a delete": "stale",
    }, told);
    const ours = results.filter(({ library }) => library === "Lookaside");
    assertEquals(ours.length, Object.keys(RECIPE).length);
    assertEquals(ours.filter(({ kept }) => !kept), [], told);
    assertEquals(outcomesOf(ours, "Lookaside")["two processes miss together"], "1 load");
    const page = await Deno.readTextFile(`${root}docs/tutorial/from-cache-js.md`);
    const shown = [...page.matchAll(/^```text\n([\s\S]+?)^```$/gm)].map(([, text = ""]) => text);
    assertEquals(shown.length, 3);
    for (const history of shown) {
      assertStringIncludes(withoutNumbers(told), withoutNumbers(history));
    }
    assertMatch(told, /1\. instance 1: read\(\d+\) begins/);
  });
});

describe("docs/explanation/races.md", () => {
  it("names the versions that are raced, and the page that each is set up by", async () => {
    const page = await Deno.readTextFile(`${root}docs/explanation/races.md`);
    const { imports } = JSON.parse(await Deno.readTextFile(`${root}proof/races/deno.json`));
    const raced = await adaptersOf(["bentocache", "cacheable", "layered-loader", "drizzle"]);
    const packages = ["bentocache", "cacheable", "layered-loader", "drizzle-orm"];
    for (const [at, { name, version, docs }] of raced.entries()) {
      assertEquals(imports[packages[at] ?? ""], `npm:${packages[at]}@${version}`, name);
      assertStringIncludes(page, `${packages[at]} ${version}`);
      assertStringIncludes(page, docs ?? "no page");
    }
  });
});

describe("deno task races --adapter", () => {
  it("takes the file of docs/how-to/race-your-cache.md", async () => {
    const folder = await Deno.makeTempDir({ prefix: "lookaside_races_" });
    try {
      const args = ["run", "-A", "--no-check", "proof/races/main.ts"];
      const program = { command: Deno.execPath(), args, cwd: root };
      assertEquals(await raceWithPage(program, folder), { mine: RECIPE });
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
});

describe("npx @lookaside/races", () => {
  it("races a cache on Node, from the package, and says what it needs", async () => {
    const folder = await install({
      "@lookaside/cache": "*",
      "@lookaside/changes": "*",
      "@lookaside/races": "*",
      "pg": "^8.16.0",
    });
    try {
      const { command } = await runtimeProgram("node@22", folder);
      const program = { command, args: ["node_modules/@lookaside/races/main.js"], cwd: folder };
      const outcomes = await raceWithPage({ ...program, libraries: ["lookaside"] }, folder);
      assertEquals(outcomes.mine, RECIPE);
      const lookaside = Object.values(outcomes.Lookaside ?? {});
      assertEquals(lookaside.toSorted(), ["1 load", ...Array(6).fill("fresh")]);
      const alone = { ...program, env: { PATH: folder } };
      const { code, stderr } = await run(alone);
      assertEquals([code, stderr.split("\n").length], [1, 2], stderr);
      assertMatch(stderr, /^Cannot race: \S.* not on the PATH\. Install \w+/);
      await racesOn(requiredEnv("DATABASE_URL"), program);
      const broken = 'export const adapter = { name: "broken", open: () => missing() };';
      await Deno.writeTextFile(`${folder}/broken.mjs`, broken);
      for (
        const [args, code, told] of [
          [["redis"], 2, /^Cannot race redis: there is no such library\n$/],
          [["--jsn"], 2, /^Unknown option '--jsn'.*\n$/],
          [
            ["--adapter", "broken.mjs"],
            1,
            /^ReferenceError: missing is not defined\n +at .*broken\.mjs:1:/,
          ],
        ] as const
      ) {
        const ended = await run({ ...program, args: [...program.args, ...args] });
        assertEquals(ended.code, code, ended.stderr);
        assertMatch(ended.stderr, told);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
});

describe("deno task races", () => {
  it("drops its databases, and ends its servers, when it is stopped", async () => {
    const url = requiredEnv("DATABASE_URL");
    const temporary = await Deno.makeTempDir();
    const program = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", `${root}proof/races/main.ts`, "recipe", "--database", url],
      env: { TMPDIR: temporary },
      stdout: "null",
    }).spawn();
    const sql = postgres(url, { max: 1 });
    const databases = () => sql`SELECT datname FROM pg_database WHERE datname LIKE 'races%'`;
    await eventually(async () => assertEquals((await databases()).length, 1));
    // More than once, as a terminal and `deno task` both pass Ctrl-C on.
    const again = setInterval(() => send(program, "SIGINT"), 10);
    assertEquals((await program.status).code, 130);
    clearInterval(again);
    const left = [...await databases()];
    await sql.end();
    assertEquals(left, []);
    assertEquals([...Deno.readDirSync(temporary)], []);
    await Deno.remove(temporary);
  });
});

/** Races the recipe in a Postgres that there is, and sees that nothing is left there. */
async function racesOn(url: string, kit: Kit): Promise<void> {
  const args = [...kit.args, "recipe", "--json", "--database", url];
  const { code, stdout, stderr } = await run({ ...kit, args });
  assertEquals(code, 0, stderr);
  assertEquals(outcomesOf(JSON.parse(stdout).results, "the recipe"), RECIPE);
  const sql = postgres(url, { max: 1 });
  const left = await sql`SELECT datname FROM pg_database WHERE datname LIKE 'races%'`;
  await sql.end();
  assertEquals([...left], []);
}

/** The race kit, as one of its programs. */
interface Kit {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Races the cache of the page beside some libraries. Answers the outcomes by library. */
async function raceWithPage(
  { libraries = [], ...kit }: Kit & { readonly libraries?: readonly string[] },
  folder: string,
): Promise<Record<string, Record<string, string>>> {
  const page = await Deno.readTextFile(`${root}docs/how-to/race-your-cache.md`);
  const program = /^```ts ignore\n([\s\S]+?)^```$/m.exec(page)?.[1];
  assert(program !== undefined);
  assert(program.split("\n").length < 25);
  await Deno.writeTextFile(`${folder}/mine.ts`, program);
  const options = ["--adapter", `${folder}/mine.ts`, "--json"];
  const { code, stdout, stderr } = await run({
    ...kit,
    args: [...kit.args, ...libraries, ...options],
  });
  assertEquals(code, 1, stderr);
  const { results } = JSON.parse(stdout);
  const names = new Set((results as readonly RaceResult[]).map(({ library }) => library));
  return Object.fromEntries([...names].map((name) => [name, outcomesOf(results, name)]));
}

async function run({ command, args, ...options }: Kit) {
  const output = await new Deno.Command(command, { args: [...args], ...options }).output();
  const decoder = new TextDecoder();
  return {
    ...output,
    stdout: decoder.decode(output.stdout),
    stderr: decoder.decode(output.stderr),
  };
}

/** A history whose items and times are those of any run. */
function withoutNumbers(history: string): string {
  return history.replaceAll(/\d+/g, "N").replaceAll(/^ +/gm, "").trim();
}

function outcomesOf(results: readonly RaceResult[], name: string): Record<string, string> {
  return Object.fromEntries(
    results.filter(({ library }) => library === name).map(({ race, outcome }) => [race, outcome]),
  );
}
