import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import { copyTree } from "../../tests/support/tree_copy.ts";
import { startRedis } from "../../tools/servers/redis_server.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** Pages whose blocks of TypeScript are programs that hold, and how many there are. */
const PROGRAMS = {
  "docs/how-to/mount-the-dashboard.md": 3,
  "docs/how-to/roll-out-a-changed-shape.md": 2,
  "docs/how-to/test-cached-code.md": 4,
};

describe("the how-to pages", () => {
  for (const [page, count] of Object.entries(PROGRAMS)) {
    it(`show programs that hold: ${page}`, async () => {
      const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["test", "--doc", "--no-check", "--allow-all", page],
        cwd: root,
        env: { NO_COLOR: "1" },
      }).output();
      const text = new TextDecoder();
      assert(success, text.decode(stdout) + text.decode(stderr));
      assertMatch(text.decode(stdout), new RegExp(`^ok \\| ${count} passed \\| 0 failed`, "m"));
    });
  }
});

describe("docs/how-to/test-cached-code.md", () => {
  it("shows a test with PGlite that holds", async () => {
    const page = await Deno.readTextFile(`${root}docs/how-to/test-cached-code.md`);
    const program = /^```ts ignore\n([\s\S]+?)^```$/m.exec(page)?.[1] ?? "";
    await using tree = await copyTree();
    await Deno.writeTextFile(`${tree.root}tests/example.ts`, program);
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-check", "--allow-all", "tests/example.ts"],
      cwd: tree.root,
    }).output();
    assert(success, new TextDecoder().decode(stderr));
    assertMatch(program, /deepEqual\(await total\(\), \{ total: 15 \}\)/);
  });
});

describe("docs/operations/redis-servers.md", () => {
  it("asks Redis with commands that answer what it says", async () => {
    await using redis = await startRedis();
    const page = await Deno.readTextFile(`${root}docs/operations/redis-servers.md`);
    const lines = commandsIn(page).filter((line) => line.startsWith("redis-cli"));
    assertEquals(lines.length, 3);
    for (const line of lines) {
      const [command = "", expected = ""] = line.split(/\s+#\s+/);
      const printed = await shell(command, { REDIS_URL: redis.url });
      if (expected === "a line") assertMatch(printed, /^run_id:\w+$/);
      else assertEquals(printed, expected);
    }
  });
});

describe("docs/how-to/remove-it.md", () => {
  it("empties Redis of the cache's keys, and of no others", async () => {
    await using redis = await startRedis();
    await redis.cli("MSET", "la:1:{a}", "1", "la:1:{b}:tag", "2", "mine", "3");
    const page = await Deno.readTextFile(`${root}docs/how-to/remove-it.md`);
    const command = commandsIn(page).find((line) => line.includes("--scan")) ?? "";
    await shell(command.replaceAll("redis-cli", `redis-cli -p ${redis.port}`));
    assertEquals(await redis.cli("KEYS", "*"), "mine");
  });
});

/** The lines of a page's blocks of shell. */
function commandsIn(page: string): string[] {
  return [...page.matchAll(/^```sh\n([\s\S]+?)^```$/gm)].flatMap(([, text = ""]) =>
    text.trim().split("\n")
  );
}

async function shell(command: string, env: Record<string, string> = {}): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command("sh", { args: ["-c", command], env })
    .output();
  const text = new TextDecoder();
  assert(success, text.decode(stderr));
  return text.decode(stdout).trim();
}
