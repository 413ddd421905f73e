/**
 * Every block of code in the pages is run by a test, or is listed here with the reason why not; and the blocks that
 * have no test of their own are run here.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { join } from "node:path";
import postgres from "postgres";
import { fromPostgresJs } from "../../changes/adapters/postgres_js.ts";
import { run } from "../../changes/cli.ts";
import { sourceFiles } from "../../tools/source_files.ts";
import { projectRoot } from "../support/source_tree.ts";
import { createTestDatabase, requiredEnv } from "../support/test_database.ts";
import { copyTree, type TreeCopy } from "../support/tree_copy.ts";

/** The blocks of each page, and the test that runs them. A text that begins with "not run" is a reason. */
const BLOCKS: Readonly<Record<string, readonly (readonly [languages: string, by: string])[]>> = {
  "README.md": [
    [
      "sh",
      "not run: installs published packages; proof/packages/pack_test.ts installs the tarballs",
    ],
    ["sh text", "tests/tools/dev/main_test.ts"],
    ["ts", "proof/docs/guides_test.ts"],
  ],
  "adapters/drizzle/README.md": [["ts", "tests/docs/blocks_test.ts"]],
  "bench/README.md": [["sh", "tests/docs/links_test.ts"]], // names of tasks
  "cache/README.md": [["ts ts", "tools/suite.ts"], ["ts", "tests/docs/blocks_test.ts"], [
    "ts",
    "tools/suite.ts",
  ]],
  "changes/README.md": [["js sh", "tests/docs/blocks_test.ts"]],
  "docs/explanation/changes.md": [
    ["text", "not run: a diagram"],
    ["ts", "tests/docs/blocks_test.ts"],
    ["text", "not run: a diagram"],
  ],
  "docs/explanation/concepts.md": [
    ["mermaid", "not run: a diagram"],
    ["ts ts ts ts", "proof/docs/guides_test.ts"],
  ],
  "docs/explanation/races.md": [["text text text", "not run: diagrams"]],
  "docs/how-to/cache-a-report.md": [["ts", "proof/docs/guides_test.ts"]],
  "docs/how-to/cache-your-own-table.md": [["sh ts sh sh text", "proof/docs/guides_test.ts"]],
  "docs/how-to/kysely.md": [["js js", "proof/packages/recipes_test.ts"]],
  "docs/how-to/mount-the-dashboard.md": [
    ["ts", "proof/docs/how_to_test.ts"],
    ["js", "proof/packages/node_handler_test.ts"],
    ["ts ts", "proof/docs/how_to_test.ts"],
  ],
  "docs/how-to/pgbouncer.md": [["js", "tests/docs/blocks_test.ts"]],
  "docs/how-to/prisma.md": [["js js prisma", "proof/packages/recipes_test.ts"]],
  "docs/how-to/race-your-cache.md": [["sh ts sh", "proof/packages/races_test.ts"]],
  "docs/how-to/remove-it.md": [["sh", "tests/docs/blocks_test.ts"], [
    "sh",
    "proof/docs/how_to_test.ts",
  ]],
  "docs/how-to/roll-out-a-changed-shape.md": [["ts ts", "proof/docs/how_to_test.ts"]],
  "docs/how-to/test-cached-code.md": [["ts ts ts ts ts", "proof/docs/how_to_test.ts"]],
  "docs/operations/access.md": [["sql", "tests/tools/start_test.ts"]],
  "docs/operations/redis-servers.md": [["sh", "proof/docs/how_to_test.ts"]],
  "docs/reference/events.md": [["ts", "tests/docs/events_test.ts"]],
  "docs/reference/metrics.md": [["yaml", "not run: the configuration of a Prometheus"]],
  "docs/reference/sql.md": [["sql", "tests/docs/reference_test.ts"]],
  "docs/tutorial/first-steps.md": [
    ["sh text sh text sh text sh text sh text", "proof/docs/guides_test.ts"],
  ],
  "docs/tutorial/from-cache-js.md": [
    ["js js js", "tests/docs/from_cache_js_test.ts"],
    ["text text text", "proof/packages/races_test.ts"],
    ["js js js", "tests/docs/from_cache_js_test.ts"],
  ],
  "examples/drizzle/README.md": [["sh", "tests/docs/blocks_test.ts"]],
  "examples/express/README.md": [["sh", "tests/docs/blocks_test.ts"]],
  "examples/hono/README.md": [["sh", "tests/docs/blocks_test.ts"]],
  "examples/report/README.md": [["sh", "tests/docs/blocks_test.ts"]],
  "proof/races/README.md": [["sh", "proof/packages/races_test.ts"]],
};

const TABLES = `
  CREATE TABLE orders (id int PRIMARY KEY, customer_id int, total int);
  CREATE TABLE customers (id int PRIMARY KEY);
  INSERT INTO orders VALUES (42, 7, 12)`;

describe("the blocks of code in the pages", () => {
  it("are all run by a test, or say why not", async () => {
    const pages = (await sourceFiles(projectRoot, ".md"))
      .filter((path) => !/^(CONTRIBUTING|CHANGELOG|ARCHITECTURE)\.md$|^docs\/adr\//.test(path));
    const found: Record<string, string> = {};
    for (const path of pages) {
      const languages = (await blocksOf(path)).map(({ language }) => language);
      if (languages.length > 0) found[path] = languages.join(" ");
    }
    const listed = Object.entries(BLOCKS).map(([path, parts]) =>
      [path, parts.map(([languages]) => languages).join(" ")] as const
    );
    assertEquals(found, Object.fromEntries(listed));
  });

  it("are run by tests that name their pages", async () => {
    for (const [path, parts] of Object.entries(BLOCKS)) {
      for (const [, by] of parts) {
        if (by.startsWith("not run: ")) continue;
        const test = await Deno.readTextFile(join(projectRoot, by));
        const folder = path.replace(/\/?README\.md$/, "").split("/").at(-1) ?? "";
        assert(
          [path, path.split("/").at(-1) ?? "", folder].some((name) => test.includes(name)),
          `${by}: ${path}`,
        );
      }
    }
  });
});

describe("programs in the pages", () => {
  const stack = new AsyncDisposableStack();
  let tree: TreeCopy;

  beforeAll(async () => {
    tree = stack.use(await copyTree());
  });
  afterAll(() => stack.disposeAsync());

  /** Runs a program in a tree with the packages, on tables of its own. Answers what it printed. */
  async function runProgram(program: string): Promise<string> {
    await using database = await createTestDatabase();
    await execute(database.url, TABLES);
    const path = `${tree.root}adapters/drizzle/page.ts`;
    await Deno.writeTextFile(path, program);
    const redis = new URL(requiredEnv("REDIS_URL"));
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-check", "--allow-all", path],
      cwd: tree.root,
      env: { DATABASE_URL: database.url, REDIS_URL: redis.href, NO_COLOR: "1" },
    }).output();
    const decoder = new TextDecoder();
    assert(success, decoder.decode(stderr));
    return decoder.decode(stdout).trim();
  }

  it("holds: changes/README.md", async () => {
    const [program] = await blocksOf("changes/README.md");
    const setUp = `
      const db = { order: async (id) => id, ordersOf: async (id) => [id], topSellers: async () => ["all"] };
      const load = async () => "invoice";
      const customers = table(cache, "customers");
      await Promise.all([orders.watched(), customers.watched()]);
      await cache.changes.caughtUp();
    `;
    const [head = "", body = ""] = split(onServers(program?.text), "await orders.row(");
    const printed = await runProgram(`${head}${setUp}${body}
      const names = async () => [
        (await orders.row(42, () => "new")).value(),
        (await orders.where({ customer_id: 7 }, () => "new")).value(),
        (await orders.any("top sellers", () => "new")).value(),
        (await cache.getOrLoad("invoice:9", () => "new", { tags: [...orders.tags({ id: 42 })] })).value(),
      ].join();
      const before = await names();
      await pool.query("UPDATE orders SET total = 15 WHERE id = 42");
      await cache.changes.caughtUp();
      console.log(before, await names());
      await cache.close();
      await pool.end();`);
    assertEquals(printed, "42,7,all,invoice new,new,new,new");
  });

  it("holds: docs/explanation/changes.md", async () => {
    const program = (await blocksOf("docs/explanation/changes.md")).find(({ language }) =>
      language === "ts"
    );
    const printed = await runProgram(`${PREAMBLE}
      const orders = await table(cache, "orders").watched();
      await cache.changes.caughtUp();
      const total = async () => (await orders.row(42, async () =>
        (await pool.query("SELECT total FROM orders WHERE id = 42")).rows[0].total)).value();
      const db = pool;
      await total();
      {${program?.text}}
      console.log(await total());
      await cache.close();
      await pool.end();`);
    assertEquals(printed, "9"); // whether the relay leaves it alone is tested where time is not the machine's
  });

  it("holds: docs/how-to/pgbouncer.md", async () => {
    const [program] = await blocksOf("docs/how-to/pgbouncer.md");
    const printed = await runProgram(`${PREAMBLE}
      const direct = process.env.DATABASE_URL;
      ${program?.text}
      console.log(typeof changes, typeof polling);
      await cache.close();
      await pool.end();`);
    assertEquals(printed, "object object");
  });

  it("holds: adapters/drizzle/README.md", async () => {
    const [program] = await blocksOf("adapters/drizzle/README.md");
    const [head = "", body = ""] = split(onServers(program?.text), "await db.select(");
    const printed = await runProgram(`
      import { eq } from "drizzle-orm/sql";
      import { integer, pgTable } from "drizzle-orm/pg-core";
      ${head}
      const orders = pgTable("orders", {
        id: integer().primaryKey(), customerId: integer("customer_id"), total: integer() });
      ${body}
      const [found] = await db.select().from(orders).where(eq(orders.customerId, 7)).$withCache();
      console.log(found.total);
      await cache.close();
      await pool.end();`);
    assertEquals(printed, "15");
  });

  it("holds: cache/README.md, a cache whose credentials change", async () => {
    const program = (await blocksOf("cache/README.md")).find(({ text }) =>
      text.includes("connect:")
    );
    const printed = await runProgram(`
      ${program?.text.replace("connect: () => (", 'connect: () => (console.log("asked"), ')}
      token = "another";
      await cache.get("a").catch(() => undefined);`);
    assertMatch(printed, /^asked/);
  });

  for (const page of ["changes/README.md", "docs/how-to/remove-it.md"]) {
    it(`are commands that work: ${page}`, async () => {
      await using own = await createTestDatabase();
      await execute(own.url, TABLES);
      const role = `my_service_${crypto.randomUUID().slice(0, 8)}`;
      await execute(own.url, `CREATE ROLE ${role}`);
      const lines = (await blocksOf(page)).filter(({ language }) => language === "sh")
        .flatMap(({ text }) => text.trim().split("\n"))
        .map((line) => line.replace(/\s+#.*/, "").replace("my_service", role));
      if (page.includes("remove-it")) {
        await command(own.url, ["install"]);
        await command(own.url, ["watch", "orders"]);
      }
      let printed = "";
      for (const line of lines) {
        const [, statement] = /^psql "\$DATABASE_URL" -c "(.+)"$/.exec(line) ?? [];
        const [, args] = /^npx @lookaside\/changes (.+)$/.exec(line) ?? [];
        if (statement !== undefined) await execute(own.url, statement);
        else if (args !== undefined) printed += await command(own.url, args.split(" "));
      }
      await execute(own.url, `DROP OWNED BY ${role}; DROP ROLE ${role}`);
      const [last = ""] = printed.trim().split("\n").slice(-1);
      if (page.includes("remove-it")) assertEquals(printed, "unwatched\n");
      else assertStringIncludes(printed, "orders: key (id), columns (customer_id)", last);
    });
  }

  for (const name of ["drizzle", "express", "hono", "report"]) {
    it(`are statements that make the table: examples/${name}`, async () => {
      await using own = await createTestDatabase();
      const [shell] = await blocksOf(`examples/${name}/README.md`);
      const statements = [...(shell?.text ?? "").matchAll(/-c "(.+?)"/g)].map(([, text = ""]) =>
        text
      );
      assert(statements.length > 1);
      const made = statements[0] ?? "";
      assertStringIncludes(
        made,
        "CREATE TABLE orders (id INT PRIMARY KEY, customer_id INT, total INT)",
      );
      await execute(own.url, statements.join(";\n"));
    });
  }
});

/** Imports, and a cache that hears of changes. */
const PREAMBLE = `
  import pg from "pg";
  import process from "node:process";
  import { Cache } from "@lookaside/cache";
  import { postgresChanges, table } from "@lookaside/changes";

  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
  const cache = new Cache({
    url: process.env.REDIS_URL,
    prefix: crypto.randomUUID().slice(0, 8).replace(/^/, "t"),
    changes: postgresChanges(pool),
  });
  await cache.changes.caughtUp();`;

/** A program on the servers of the test. */
function onServers(program = ""): string {
  return program
    .replace("new pg.Pool()", "new pg.Pool({ connectionString: Deno.env.get('DATABASE_URL') })")
    .replace(
      '"redis://127.0.0.1:6379"',
      `Deno.env.get("REDIS_URL"), prefix: "t${crypto.randomUUID().slice(0, 8)}"`,
    );
}

/** A text in two parts, of which the second begins with `mark`. */
function split(text: string, mark: string): string[] {
  const at = text.indexOf(mark);
  assert(at > 0, text);
  return [text.slice(0, at), text.slice(at)];
}

/** The fenced blocks of a page. */
async function blocksOf(path: string): Promise<{ language: string; text: string }[]> {
  const page = await Deno.readTextFile(join(projectRoot, path));
  return [...page.matchAll(/^```(\w+)[^\n]*\n([\s\S]*?)^```$/gm)].map(
    ([, language = "", text = ""]) => ({ language, text }),
  );
}

/** Runs a command of `npx @lookaside/changes`. Answers what it printed. */
async function command(url: string, args: readonly string[]): Promise<string> {
  let printed = "";
  const code = await run(args, {
    url,
    connect: (to) => {
      const sql = postgres(to, { max: 1, prepare: false, onnotice: () => undefined });
      return Promise.resolve({ ...fromPostgresJs(sql), [Symbol.asyncDispose]: () => sql.end() });
    },
    print: (text) => void (printed += text),
  });
  assertEquals(code, 0, printed);
  return printed;
}

async function execute(url: string, statements: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => undefined });
  try {
    await sql.unsafe(statements);
  } finally {
    await sql.end();
  }
}
