import { assert, assertEquals, assertLess, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { eventually } from "../../tools/servers/eventually.ts";
import { createSeededDatabase } from "../../tests/support/seeded_database.ts";
import { serviceEnv } from "../../tests/support/service_env.ts";
import {
  cacheInUse,
  type Service,
  type ServiceOptions,
  startService,
} from "../../tools/servers/service.ts";
import { copyTree } from "../../tests/support/tree_copy.ts";
import { createTestDatabase, requiredEnv } from "../../tests/support/test_database.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const LINES_MAX = 12;

/** A block of code in a page, and the file that the line above it names. */
interface Block {
  readonly file: string | undefined;
  readonly language: string;
  readonly text: string;
}

async function blocksOf(page: string): Promise<Block[]> {
  const text = await Deno.readTextFile(root + page);
  let file: string | undefined;
  return [...text.matchAll(/^`([\w./]+)`$|^```(\w+)[^\n]*\n([\s\S]*?)^```$/gm)].flatMap(
    ([, named, language, body = ""]) => {
      if (named !== undefined) file = named;
      return language === undefined ? [] : [{ file, language, text: body }];
    },
  );
}

/** Does what a block says: a new file, or a change of one whose old lines stand there once. */
async function apply({ file, language, text }: Block, folder: string): Promise<void> {
  const path = folder + file;
  if (language !== "diff") return await Deno.writeTextFile(path, text);
  const lines = text.trimEnd().split("\n");
  const side = (sign: string) =>
    lines.filter((line) => line.startsWith(" ") || line.startsWith(sign))
      .map((line) => line.slice(1)).join("\n") + "\n";
  const parts = (await Deno.readTextFile(path)).split(side("-"));
  assertEquals(parts.length, 2, `${file} has no such lines, or has them more than once:\n${text}`);
  await Deno.writeTextFile(path, parts.join(side("+")));
}

async function run(
  args: readonly string[],
  options: { readonly cwd: string; readonly env?: Record<string, string> },
): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...args],
    ...options,
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  assert(success, text.decode(stdout) + text.decode(stderr));
  return text.decode(stdout);
}

/** Runs one command of the page: `curl` answers what it would print, `psql` nothing. */
async function execute(command: string, service: Service, databaseUrl: string): Promise<string[]> {
  const [curl, method = "GET", path = "", name, value, body] =
    /^curl (?:-X (\w+) )?localhost:3000(\/\S+)(?: -H '(\S+): (\S+)' -d '(.+)')?$/.exec(command) ??
      [];
  if (curl !== undefined) {
    const sent = name === undefined ? {} : { headers: { [name]: value ?? "" }, body: body ?? "" };
    return [await (await service.fetch(path, { method, ...sent })).text()];
  }
  const statement = /^psql testdb -c "(.+)"$/.exec(command)?.[1];
  assert(statement !== undefined, command);
  const sql = postgres(databaseUrl, { max: 1 });
  await sql.unsafe(statement);
  await sql.end();
  return [];
}

describe("README.md", () => {
  // The program invalidates twice: each is tried without the other.
  for (const left of ["cache.delete", "cache.invalidateTags"]) {
    it(`shows the library with a program that reads what was written, without ${left}`, async () => {
      const blocks = await blocksOf("README.md");
      const program = blocks.find(({ language }) => language === "ts")?.text ?? "";
      const lines = program.trimEnd().split("\n");
      const kept = lines.filter((line) => !line.startsWith(`await ${left}(`));
      assertEquals(kept.length, lines.length - 1);
      const again = 'await cache.getOrLoad("user:42", () => find(42))';
      const text = [...kept, `console.log(user.value()?.name, (${again}).value()?.name);`];
      await using tree = await copyTree();
      await Deno.writeTextFile(`${tree.root}example.ts`, text.join("\n"));
      const printed = await run(["run", "--allow-all", "example.ts"], { cwd: tree.root });
      assertEquals(printed.trim(), "Ada Grace");
    });
  }
});

/** A line of output as a page shows it: `…` stands for the rest, a duration for any. */
function outputLike(line: string): RegExp {
  const literal = line.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^${literal.replaceAll("…", ".*").replaceAll(/[\d\\.]+ms/g, "[\\d.]+ms")}$`);
}

describe("docs/tutorial/first-steps.md", () => {
  it("shows what its commands print", async () => {
    await using database = await createSeededDatabase(30);
    await using service = await startService({
      env: serviceEnv(database.url),
    });
    await cacheInUse(service, "/users/30");
    const blocks = await blocksOf("docs/tutorial/first-steps.md");
    for (const [at, { language, text }] of blocks.entries()) {
      if (language !== "sh") continue;
      const expected = blocks[at + 1]?.text.trim().split("\n") ?? [];
      for (const command of text.trim().split("\n")) {
        if (command.startsWith("psql")) await execute(command, service, database.url);
        else {
          const line = expected.shift() ?? "";
          await eventually(async () => {
            const [printed = ""] = await execute(command, service, database.url);
            assertMatch(printed, outputLike(line));
          });
        }
      }
      assertEquals(expected, []);
    }
  });
});

describe("docs/explanation/concepts.md", () => {
  it("shows programs that hold", async () => {
    const args = ["test", "--doc", "--no-check", "--allow-all", "docs/explanation/concepts.md"];
    assertMatch(await run(args, { cwd: root, env: { NO_COLOR: "1" } }), /4 passed \| 0 failed/);
  });
});

describe("docs/how-to/cache-your-own-table.md", () => {
  it("leads from a clone to a table that is cached and never old", async () => {
    const blocks = await blocksOf("docs/how-to/cache-your-own-table.md");
    await using tree = await copyTree();
    for (const block of blocks.filter(({ language }) => language === "ts")) {
      await apply(block, tree.root);
    }
    // Its types are all that the page changes; that the rest fits them is seen when it runs.
    await run(["check", "--quiet", "--frozen", "routes/resources.ts"], { cwd: tree.root });

    await using database = await createTestDatabase();
    const [prepare = "", , use = ""] = blocks.filter(({ language }) => language === "sh").map((
      { text },
    ) => text);
    await run(["run", "--allow-all", "seed.ts"], {
      cwd: tree.root,
      env: { DATABASE_URL: database.url },
    });
    const env = serviceEnv(database.url);
    const statements = prepare.trim().split("\n").filter((line) => line.startsWith("psql"));
    await using service = await startWith(statements, { env, root: tree.root, database });
    await cacheInUse(service);

    const expected = blocks.find(({ language }) => language === "text")?.text.trim().split("\n");
    const printed: string[] = [];
    for (const command of use.trim().split("\n")) {
      // A person takes longer to type than an invalidation or a fill takes to arrive.
      await eventually(async () => {
        const [line] = await execute(command, service, database.url);
        if (line === undefined) return;
        const wanted = expected?.[printed.length];
        const withoutTime = (text: string | undefined) => text?.replace(/"duration":"[^"]*",/, "");
        const ofData = (text: string | undefined) =>
          withoutTime(text)?.replace(/"source":"\w+",/, "");
        assertEquals(ofData(line), ofData(wanted));
        if (wanted?.includes('"cache"')) assertEquals(withoutTime(line), withoutTime(wanted));
        printed.push(line);
      });
    }
    assertEquals(printed.length, expected?.length);
  });

  it("takes one file of at most twelve lines", async () => {
    const files = (await blocksOf("docs/how-to/cache-your-own-table.md")).filter(({ language }) =>
      language === "ts" || language === "diff"
    );
    assertEquals(files.map(({ file }) => file), ["routes/resources.ts"]);
    const lines = files[0]?.text.split("\n").filter((line) => line.trim() !== "") ?? [];
    assertLess(lines.length, LINES_MAX + 1);
  });
});

/** Starts the service once the statements have run. */
async function startWith(
  statements: readonly string[],
  { database, ...options }: ServiceOptions & { readonly database: { readonly url: string } },
): Promise<Service> {
  const sql = postgres(database.url, { max: 1 });
  for (const command of statements) await sql.unsafe(/-c "(.+)"$/.exec(command)?.[1] ?? "");
  await sql.end();
  return await startService(options);
}

describe("docs/how-to/cache-a-report.md", () => {
  it("makes the report once for a hundred callers, and anew once it is invalidated", async () => {
    await using database = await createSeededDatabase(100);
    const [block] = await blocksOf("docs/how-to/cache-a-report.md");
    await using tree = await copyTree();
    const prefix = `t${crypto.randomUUID().slice(0, 8)}`;
    const program = (block?.text ?? "").replace('"reports"', `"${prefix}"`);
    await Deno.writeTextFile(`${tree.root}report.ts`, program);
    const printed = await run(["run", "--allow-all", "report.ts"], {
      cwd: tree.root,
      env: { DATABASE_URL: database.url, REDIS_URL: requiredEnv("REDIS_URL"), NO_COLOR: "1" },
    });
    assertMatch(printed, /^100 callers, 1 load, \d+ ms \{ users: 100, domains: \d+ \}$/m);
    assertMatch(printed, /^once more: from (memory|redis), \d+\.\d ms$/m);
    assertMatch(printed, /^after the invalidation: load$/m);
  });
});
