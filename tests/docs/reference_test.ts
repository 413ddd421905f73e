import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { join } from "node:path";
import postgres from "postgres";
import { settingsOf } from "../../cache/options.ts";
import { changesSql } from "../../changes/mod.ts";
import { VARIABLE_NAMES } from "../../server/config.ts";
import { projectRoot } from "../support/source_tree.ts";
import { createTestDatabase } from "../support/test_database.ts";

describe("docs/reference/configuration.md", () => {
  it("lists every variable with its default, and no other", async () => {
    const page = await Deno.readTextFile(join(projectRoot, "docs/reference/configuration.md"));
    const example = await Deno.readTextFile(join(projectRoot, ".env.example"));
    const listed = [...page.matchAll(/^\| `([A-Z_]+)` +\| (?:`([^`]*)`|–) +\|/gm)];
    assertEquals(listed.map(([, name]) => name).sort(), [...VARIABLE_NAMES].sort());
    for (const [, name, value = ""] of listed) {
      const line = new RegExp(`^#? ?${name}=(.*)$`, "m").exec(example);
      assertEquals(`${name}=${value}`, `${name}=${line?.[1]}`);
    }
  });
});

describe("docs/reference/commands.md", () => {
  it("lists every task", async () => {
    const page = await Deno.readTextFile(join(projectRoot, "docs/reference/commands.md"));
    const { tasks } = JSON.parse(await Deno.readTextFile(join(projectRoot, "deno.json")));
    const listed = [...page.matchAll(/^\| `deno task ([a-z:]+)` /gm)].map(([, name]) => name);
    assertEquals(listed.sort(), Object.keys(tasks).sort());
  });
});

describe("docs/reference/options.md", () => {
  it("lists every option, and no other", async () => {
    const page = await Deno.readTextFile(join(projectRoot, "docs/reference/options.md"));
    const tables = [...page.matchAll(/^\| option .*\n(?:\|.*\n)+/gm)].map(([table]) =>
      optionsIn(table)
    );
    assertEquals(tables, [
      await optionsOf("cache/options.ts", "CacheOptions"),
      await optionsOf("cache/options.ts", "EntryOptions"),
      await optionsOf("cache/options.ts", "WarmOptions"),
      await optionsOf("changes/options.ts", "PostgresChangesOptions"),
      [
        "columns",
        ...["graceMs", "key", "negativeTtlMs", "refresh", "ttlMs"],
      ],
    ]);
  });

  it("says their defaults", async () => {
    const page = await Deno.readTextFile(join(projectRoot, "docs/reference/options.md"));
    const settings = settingsOf({});
    const derived = ["heartbeatMs", "loadTimeoutMs", "waitMsMax"];
    const numbers = Object.entries(settings).filter(([name]) => !derived.includes(name));
    for (const [name, value] of numbers) {
      const listed = new RegExp(`^\\| \`${name}\` +\\| ([\\d.,]+) `, "m").exec(page)?.[1];
      assertEquals(Number(listed?.replaceAll(",", "")), value, name);
    }
  });
});

describe("docs/reference/sql.md", () => {
  it("shows statements that Postgres runs", async () => {
    const page = await Deno.readTextFile(join(projectRoot, "docs/reference/sql.md"));
    const statements = /^```sql\n([\s\S]+?)^```$/m.exec(page)?.[1] ?? "";
    await using database = await createTestDatabase();
    const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
    try {
      await sql.unsafe(changesSql);
      await sql`CREATE TABLE orders (id int PRIMARY KEY, customer_id int)`;
      await sql`CREATE TABLE memberships (
        user_id int NOT NULL, group_id int NOT NULL, role text, UNIQUE (user_id, group_id))`;
      const answers = await sql.unsafe(statements);
      assertEquals(answers.map((rows) => [...rows]), [
        [{ watch: true }],
        [{ watch: true }],
        [{ unwatch: true }],
        [],
        [{ label: "orders", key: ["id"], columns: ["customer_id"], matter: null }],
      ]);
    } finally {
      await sql.end();
    }
  });

  it("names functions, tables and settings that there are", async () => {
    const page = await Deno.readTextFile(join(projectRoot, "docs/reference/sql.md"));
    const named = [...page.matchAll(/^\| `(lookaside\.\w+)/gm)].map(([, name = ""]) => name);
    assertEquals(named.length, 11);
    assertEquals(named.filter((name) => !changesSql.includes(name)), []);
  });
});

/** The names in the first column of a table, in order. */
function optionsIn(table: string): string[] {
  return table.split("\n").slice(2).flatMap((line) =>
    [...(line.split("|")[1] ?? "").matchAll(/`(\w+)`/g)].map(([, name = ""]) => name)
  ).toSorted();
}

/** The properties that an interface declares, in order. */
async function optionsOf(path: string, name: string): Promise<string[]> {
  const source = await Deno.readTextFile(join(projectRoot, path));
  const [body = ""] = new RegExp(`^export interface ${name}\\b[\\s\\S]+?^\\}`, "m").exec(source) ??
    [];
  return [...body.matchAll(/^ {2}readonly (\w+)\??:/gm)].map(([, option = ""]) => option)
    .toSorted();
}
