/**
 * The recipes for other people's libraries, run from their pages with the packages of this tree.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { install, run, runtimeProgram } from "../../tests/support/installed.ts";
import { createTestDatabase, requiredEnv } from "../../tests/support/test_database.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const TABLES = `
  CREATE TABLE customers (id INT PRIMARY KEY, name TEXT NOT NULL);
  CREATE TABLE orders (
    id INT PRIMARY KEY, customer_id INT NOT NULL REFERENCES customers, total NUMERIC NOT NULL, at TIMESTAMPTZ NOT NULL
  );
  INSERT INTO customers VALUES (1, 'Ada'), (2, 'Barbara');
  INSERT INTO orders VALUES (1, 1, 15.5, '2026-01-02 03:04:05Z'), (2, 2, 7, '2026-01-02 03:04:05Z')`;

/** Writes the files of a page into a folder. */
async function writeFiles(page: string, folder: string): Promise<void> {
  const text = await Deno.readTextFile(join(root, page));
  const files = [...text.matchAll(/^`([\w./]+)`\n\n```\w+[^\n]*\n([\s\S]*?)^```$/gm)];
  assert(files.length > 1, page);
  for (const [, name = "", content = ""] of files) {
    await Deno.writeTextFile(join(folder, name), content);
  }
}

/** Runs the program of a page on Node, on tables of its own. */
async function runPage(page: string, { dependencies, prepare = () => Promise.resolve() }: {
  readonly dependencies: Readonly<Record<string, string>>;
  readonly prepare?: (folder: string, node: string) => Promise<unknown>;
}): Promise<string> {
  const folder = await install({
    "@lookaside/cache": "*",
    "@lookaside/changes": "*",
    "pg": "^8.16.0",
    ...dependencies,
  });
  try {
    await using database = await createTestDatabase();
    const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
    await sql.unsafe(TABLES);
    await sql.end();
    await writeFiles(page, folder);
    const { command: node } = await runtimeProgram("node@24", folder);
    await prepare(folder, node);
    const { password, port, username, hostname } = new URL(requiredEnv("REDIS_URL"));
    const redis = `redis://${username}:${password}@${hostname}:${port}`;
    const main = await Deno.readTextFile(join(folder, "main.js"));
    const prefix = `t${crypto.randomUUID().slice(0, 8)}`;
    const own = main.replace("new Cache({ ", `new Cache({ prefix: "${prefix}", `);
    await Deno.writeTextFile(join(folder, "main.js"), own);
    return await run(node, ["main.js"], {
      cwd: folder,
      env: { DATABASE_URL: database.url, REDIS_URL: redis, NO_COLOR: "1" },
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

describe("docs/how-to/kysely.md", () => {
  it("answers rows from the cache until a table of theirs changes", async () => {
    const printed = await runPage("docs/how-to/kysely.md", {
      dependencies: { "kysely": "^0.28.0", "devalue": "^6.0.0" },
    });
    const ids = [...printed.matchAll(/id: (\d)/g)].map(([, id]) => id);
    assertEquals(ids, ["1", "1", "2", "1", "2"], printed);
    assertMatch(printed, /at: 2026-01-02T03:04:05.000Z/); // a Date, from Redis or memory as well
    assertMatch(printed, /\] 2 loads\n$/);
  });
});

describe("docs/how-to/prisma.md", () => {
  it("answers rows from the cache until they or what they include change", async () => {
    const printed = await runPage("docs/how-to/prisma.md", {
      dependencies: {
        "@prisma/adapter-pg": "^7.0.0",
        "@prisma/client": "^7.0.0",
        "prisma": "^7.0.0",
        "devalue": "^6.0.0",
      },
      // The generator needs none of the engines that it would fetch.
      prepare: (folder, node) =>
        run(node, ["node_modules/prisma/build/index.js", "generate", "--schema=schema.prisma"], {
          cwd: folder,
          env: { PRISMA_SCHEMA_ENGINE_BINARY: "/bin/true", CHECKPOINT_DISABLE: "1" },
        }),
    });
    const names = [...printed.matchAll(/name: '(\w+)'/g)].map(([, name]) => name);
    const rest = ["Grace", "Barbara", "Grace", "Barbara", "Grace", "Barbara"];
    assertEquals(names.toSorted(), ["Ada", "Barbara", ...rest].toSorted(), printed);
    assertEquals([...printed.matchAll(/15\.5/g)].length, 2, printed);
    assertMatch(printed, /at: 2026-01-02T03:04:05.000Z/);
    assertMatch(printed, /\] 3 loads\n$/);
  });
});
