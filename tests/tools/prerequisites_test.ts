import { assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { neededBy, type Prerequisite, type Programs, provide } from "../../tools/prerequisites.ts";

const task = { root: "/project", task: "test", args: ["tests/cache"] };
const install = "apt-get install -qy --no-install-recommends redis-server";

/** A machine without Redis, which has these programs, and what was run on it. */
function machine(
  present: readonly string[],
  { isRoot = false, exitCode = 0 } = {},
): { needed: Prerequisite[]; programs: Programs; calls: string[] } {
  const calls: string[] = [];
  return {
    calls,
    needed: [
      { package: "openssl", present: () => true },
      { package: "redis-server", present: () => calls.includes(install) && exitCode === 0 },
    ],
    programs: {
      isRoot,
      answers: (program) => Promise.resolve(present.includes(program)),
      run: (program, args) => {
        calls.push([program, ...args].join(" "));
        return Promise.resolve(exitCode);
      },
    },
  };
}

describe("provide()", () => {
  it("runs nothing where nothing is missing", async () => {
    const { needed, programs, calls } = machine(["apt-get", "docker"], { isRoot: true });
    assertEquals(await provide(needed.slice(0, 1), task, programs), { here: true });
    assertEquals(calls, []);
  });

  it("installs what is missing, as root with apt-get", async () => {
    const { needed, programs, calls } = machine(["apt-get", "docker"], { isRoot: true });
    assertEquals(await provide(needed, task, programs), { here: true });
    assertEquals(calls, ["apt-get update -q", install]);
  });

  it("says what could not be installed", async () => {
    const { needed, programs } = machine(["apt-get"], { isRoot: true, exitCode: 100 });
    const text = "Cannot run the suite: redis-server could not be installed";
    await assertRejects(() => provide(needed, task, programs), Error, text);
  });

  it("runs the task in a container where Docker runs, and passes on how it ended", async () => {
    const { needed, programs, calls } = machine(["apt-get", "docker"], { exitCode: 3 });
    assertEquals(await provide(needed, task, programs), { exitCode: 3 });
    assertEquals(calls.length, 1);
    assertEquals(calls[0]?.startsWith("docker run --rm"), true);
    assertEquals(calls[0]?.includes("/project:/source:ro"), true);
    assertEquals(calls[0]?.endsWith("sh test tests/cache"), true);
  });

  it("says the command to run where it may do neither", async () => {
    const { needed, programs, calls } = machine(["apt-get"]);
    const { message } = await assertRejects(
      () => provide(needed, task, programs),
      Error,
    );
    assertEquals(
      message,
      `Cannot run the suite: redis-server missing. Run: sudo ${install}`,
    );
    assertEquals(calls, []);
  });
});

describe("neededBy()", () => {
  const packages = (...paths: string[]) => neededBy(paths).map((needed) => needed.package);

  it("names the browser where its tests run, and nowhere else", () => {
    for (const paths of [[], ["tests/browser"], ["tests"], ["tests/browser/access_test.ts"]]) {
      assertEquals(packages(...paths).includes("chromium-headless-shell"), true, paths.join());
    }
    assertEquals(packages("tests/cache", "proof").includes("chromium-headless-shell"), false);
    assertEquals(packages("proof").includes("postgresql"), true);
  });
});
