// Runs under both import maps: what holds for the stand-in must hold for the real package. The
// fixtures are run by `deno test` in a child process, as failing on purpose is what they are for.
import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import { countTests } from "../../tools/junit.ts";

const order: string[] = [];

describe("hooks", () => {
  beforeAll(() => void order.push("outer beforeAll"));
  afterAll(() => {
    order.push("outer afterAll");
    assertEquals(order, [
      "outer beforeAll",
      "outer beforeEach",
      "first",
      "outer afterEach",
      "inner beforeAll",
      "outer beforeEach",
      "inner beforeEach",
      "second",
      "inner afterEach",
      "outer afterEach",
      "inner afterAll",
      "outer afterAll",
    ]);
  });
  beforeEach(() => void order.push("outer beforeEach"));
  afterEach(() => void order.push("outer afterEach"));
  it("run before and after", () => void order.push("first"));
  describe("in an inner suite", () => {
    beforeAll(() => void order.push("inner beforeAll"));
    afterAll(() => void order.push("inner afterAll"));
    beforeEach(() => void order.push("inner beforeEach"));
    afterEach(() => void order.push("inner afterEach"));
    it("run within those of the outer suite", () => void order.push("second"));
  });
});

describe("a test file", () => {
  it("fails and runs no test when beforeAll throws", async () => {
    const { counts, success } = await runFixture(`
      describe("suite", () => {
        beforeAll(() => { throw new Error("no server"); });
        it("never runs", () => {});
      });`);
    assertEquals({ counts, success }, {
      counts: { passed: 0, failed: 1, skipped: 0 },
      success: false,
    });
  });

  it("fails when afterAll throws, its tests passing", async () => {
    const { counts } = await runFixture(`
      describe("suite", () => {
        afterAll(() => { throw new Error("no end"); });
        it("passes", () => {});
      });`);
    assertEquals(counts, { passed: 1, failed: 1, skipped: 0 });
  });

  it("runs afterEach and afterAll after a test that throws", async () => {
    const { output, counts } = await runFixture(`
      describe("suite", () => {
        afterEach(() => console.log("each cleaned"));
        afterAll(() => console.log("all cleaned"));
        it("fails", () => { throw new Error("broken"); });
        it("passes", () => {});
      });`);
    assertEquals(counts, { passed: 1, failed: 1, skipped: 0 });
    assertEquals(output.match(/each cleaned/g)?.length, 2);
    assertStringIncludes(output, "all cleaned");
  });

  it("fails on a leaked interval and on a leaked connection", async () => {
    for (
      const leak of ["setInterval(() => {}, 1000)", "Deno.listen({ port: 0 })"]
    ) {
      const { counts, output } = await runFixture(`
        describe("suite", () => { it("leaks", () => { ${leak}; }); });`);
      assertEquals(counts, { passed: 1, failed: 1, skipped: 0 });
      assertStringIncludes(output, "Leaks detected");
    }
  });

  it("does not fail on a leak where the suite says so", async () => {
    const { counts } = await runFixture(`
      describe("suite", { sanitizeOps: false, sanitizeResources: false }, () => {
        it("leaks", () => { setInterval(() => {}, 1000); });
      });`);
    assertEquals(counts, { passed: 1, failed: 0, skipped: 0 });
  });

  it("counts what is skipped", async () => {
    const { counts, success } = await runFixture(`
      it.skip("alone", () => { throw new Error(); });
      it("by option", { ignore: true }, () => { throw new Error(); });
      describe("suite", () => {
        it.ignore("in a suite", () => { throw new Error(); });
        it("passes", () => {});
      });
      describe.skip("whole suite", () => { it("never", () => { throw new Error(); }); });`);
    assertEquals(counts, { passed: 1, failed: 0, skipped: 4 });
    assert(success);
  });

  it("refuses a suite that is described asynchronously", async () => {
    const { output, success } = await runFixture(`
      const later: () => void = async () => { await Promise.resolve(); };
      describe("suite", later);`);
    assertNotEquals(success, true);
    assertStringIncludes(output, "tests must be defined synchronously");
  });
});

async function runFixture(body: string): Promise<
  { counts: ReturnType<typeof countTests>; output: string; success: boolean }
> {
  const directory = await Deno.makeTempDir({ prefix: "lookaside_bdd_" });
  try {
    const names = "afterAll, afterEach, beforeAll, beforeEach, describe, it";
    await Deno.writeTextFile(
      `${directory}/a_test.ts`,
      `import { ${names} } from "@std/testing/bdd";\n${body}\n`,
    );
    const importMap = Deno.env.get("TEST_IMPORT_MAP");
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...[
          "test",
          "--allow-net",
          "--no-check",
          "--no-lock",
          `--config=${projectFile("deno.json")}`,
        ],
        ...importMap ? [`--import-map=${importMap}`] : [],
        ...[`--junit-path=${directory}/report.xml`, directory],
      ],
      env: { NO_COLOR: "1" },
    }).output();
    const decoder = new TextDecoder();
    const report = await Deno.readTextFile(`${directory}/report.xml`);
    return {
      counts: countTests(report),
      output: decoder.decode(stdout) + decoder.decode(stderr),
      success,
    };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function projectFile(name: string): string {
  return fileURLToPath(new URL(`../../${name}`, import.meta.url));
}
