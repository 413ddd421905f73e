import { assertEquals, assertGreater, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { eventually } from "../../tools/servers/eventually.ts";
import { projectRoot } from "../support/source_tree.ts";

const passing = 'Deno.test("a", () => {});';
const failing = 'Deno.test("b", () => { throw new Error("b"); });';
const skipped = 'Deno.test({ name: "c", ignore: true, fn() {} });';

describe("deno task test", () => {
  it("ends with the count and succeeds when all pass", async () => {
    const { lastLine, success } = await runSuite({ "a_test.ts": passing });
    assertEquals({ lastLine, success }, { lastLine: "1 passed, 0 failed", success: true });
  });

  it("fails when a test fails", async () => {
    const { lastLine, success } = await runSuite({ "a_test.ts": `${passing}\n${failing}` });
    assertEquals({ lastLine, success }, { lastLine: "1 passed, 1 failed", success: false });
  });

  it("counts what is skipped, and fails on it with CI=true alone", async () => {
    const files = { "a_test.ts": `${passing}\n${skipped}` };
    const lastLine = "1 passed, 0 failed, 1 skipped";
    assertEquals(await outcome(files), { lastLine, success: true });
    assertEquals(await outcome(files, { CI: "true" }), { lastLine, success: false });
  });

  it("fails when nothing was run", async () => {
    const { lastLine, success } = await runSuite({ "a_test.ts": "export {};" });
    assertEquals({ lastLine, success }, { lastLine: "0 passed, 0 failed", success: false });
  });

  it("counts a module that throws, does not load or does not type-check as a failure", async () => {
    for (
      const [text, checkTypes] of [
        ["throw new Error()", false],
        ['import "./nowhere.ts";', false],
        ["const a: number = 'a';", true],
      ] as const
    ) {
      const files = { "a_test.ts": passing, "b_test.ts": text };
      const { lastLine, success } = await runSuite(files, { checkTypes });
      assertMatch(lastLine, /^[01] passed, 1 failed$/);
      assertEquals(success, false);
    }
  });

  it("ends the servers that a test has left behind", async () => {
    // Not a child of the test itself: those Deno ends.
    const script = "sleep 300 >/dev/null 2>&1 & echo left $! behind";
    const text = `Deno.test("a", async () => {
      const { stdout } = await new Deno.Command("sh", { args: ["-c", "${script}"] }).output();
      console.log(new TextDecoder().decode(stdout));
    });`;
    const { output } = await runSuite({ "a_test.ts": text });
    const pid = Number(/left (\d+) behind/.exec(output)?.[1]);
    assertGreater(pid, 0);
    await eventually(() => assertEquals(isAlive(pid), false), { deadlineMs: 2_000 });
  });
});

describe("Suite.testParts()", () => {
  it("counts the tests of all parts, and shows those that failed last", async () => {
    const directory = await Deno.makeTempDir({ prefix: "lookaside_suite_" });
    try {
      const files = {
        "a_test.ts": failing,
        "b_test.ts": passing,
        "c_test.ts": "throw new Error()",
      };
      for (const [name, text] of Object.entries(files)) {
        await Deno.writeTextFile(`${directory}/${name}`, text);
      }
      const parts = Object.keys(files).map((name) => ["--no-check", `${directory}/${name}`]);
      const program = `import { runSuite } from "${projectRoot}/tools/suite.ts";
        const run = (suite) => suite.testParts(${JSON.stringify(parts)});
        const task = { name: "parts", args: [], paths: ["proof"], minutesMax: 1, run };
        Deno.exit(await runSuite(task));`;
      await Deno.writeTextFile(`${directory}/main.js`, program);
      const args = ["run", "--allow-all", "--config", `${projectRoot}/deno.json`, "--no-lock"];
      const { stdout, code } = await new Deno.Command(Deno.execPath(), {
        args: [...args, `${directory}/main.js`],
        env: { ...noServers, DENO_JOBS: "2" },
      }).output();
      const text = new TextDecoder().decode(stdout);
      assertEquals([text.trimEnd().split("\n").at(-1), code], ["1 passed, 2 failed", 1]);
      const shown = [...text.matchAll(/running \d tests? from .*\/(\w)_test\.ts/g)].map((
        [, name],
      ) => name);
      assertEquals(shown, ["b", "a"]);
    } finally {
      await Deno.remove(directory, { recursive: true });
    }
  });
});

/** Servers that nobody asks for anything. */
const noServers = {
  CI: "false",
  NO_COLOR: "1",
  REDIS_URL: "redis://127.0.0.1:1",
  DATABASE_URL: "postgres://127.0.0.1:1/nowhere",
};

/** Signal 0 is not to be had, so: SIGCONT, which does nothing to what runs. */
function isAlive(pid: number): boolean {
  try {
    Deno.kill(pid, "SIGCONT");
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof TypeError) return false;
    throw error;
  }
}

async function outcome(
  files: Record<string, string>,
  env: Record<string, string> = {},
): Promise<{ lastLine: string; success: boolean }> {
  const { lastLine, success } = await runSuite(files, { env });
  return { lastLine, success };
}

/** Runs the command over test files of its own, with servers that nobody asks for anything. */
async function runSuite(
  files: Record<string, string>,
  { env = {}, checkTypes = false }: {
    readonly env?: Readonly<Record<string, string>>;
    readonly checkTypes?: boolean;
  } = {},
): Promise<{ lastLine: string; output: string; success: boolean }> {
  const directory = await Deno.makeTempDir({ prefix: "lookaside_suite_" });
  try {
    for (const [name, text] of Object.entries(files)) {
      await Deno.writeTextFile(`${directory}/${name}`, text);
    }
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--allow-all", "--no-lock", `${projectRoot}/tools/test.ts`, directory],
        ...checkTypes ? [] : ["--no-check"],
      ],
      env: { ...noServers, ...env },
    }).output();
    const decoder = new TextDecoder();
    const text = decoder.decode(stdout);
    return {
      lastLine: text.trimEnd().split("\n").at(-1) ?? "",
      output: text + decoder.decode(stderr),
      success,
    };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
