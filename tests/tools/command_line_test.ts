import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import manifest from "../../deno.json" with { type: "json" };

const root = fileURLToPath(new URL("../../", import.meta.url));

const COMMANDS = [
  "dev",
  "seed",
  "start",
  "check",
  "compile",
  "load",
  "prove",
  "test:fuzz",
  "test:consistency",
  "test:faults",
  "soak",
  "bench:writer",
  "bench:backlog",
  "test",
] as const;

/** Runs a task of `deno.json` as `deno task` does. */
async function run(
  task: keyof typeof manifest.tasks,
  ...args: string[]
): Promise<{ code: number; stdout: string; stderr: string }> {
  const [, ...command] = manifest.tasks[task].split(" ");
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...command, ...args],
    cwd: root,
    stdin: "null",
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

describe("the commands", () => {
  for (const task of COMMANDS) {
    it(`deno task ${task} --help tells what it does, and does nothing`, async () => {
      const { code, stdout, stderr } = await run(task, "--help");
      assertEquals([code, stderr], [0, ""]);
      assert(stdout.startsWith(`deno task ${task}`), stdout);
    });
  }

  // The same function reads the options of each.
  for (const task of ["dev", "soak"] as const) {
    it(`deno task ${task} refuses an option that it does not know, in one line`, async () => {
      const { code, stdout, stderr } = await run(task, "--nope");
      assertEquals([code, stdout], [2, ""]);
      assertEquals(stderr, `Unknown option '--nope'. See deno task ${task} --help\n`);
    });
  }

  for (
    const [task, ...args] of [["soak", "--seed", "x"], ["bench:backlog", "--rows", "0.5"]] as const
  ) {
    it(`deno task ${task} refuses ${args.join(" ")} before it starts anything`, async () => {
      const { code, stdout, stderr } = await run(task, ...args);
      assertEquals([code, stdout], [2, ""]);
      assertStringIncludes(stderr, `${args[0]} takes a whole number`);
    });
  }

  it("say so when an option lacks its value, or an argument has no place", async () => {
    for (const args of [["--data"], ["--data", "--embedded"], ["embedded"]]) {
      const { code, stderr } = await run("dev", ...args);
      assertEquals(code, 2);
      assertStringIncludes(stderr, "See deno task dev --help");
      assertEquals(stderr.trim().split("\n").length, 1, stderr);
    }
  });
});
