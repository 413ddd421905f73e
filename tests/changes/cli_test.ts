import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { fromPostgresJs } from "../../changes/adapters/postgres_js.ts";
import { fileURLToPath } from "node:url";
import { explained, run } from "../../changes/cli.ts";
import { changesSql } from "../../changes/schema.ts";
import { type ChangesFixture, createChangesDatabase } from "./changes_fixture.ts";

let fixture: ChangesFixture;

/** Runs a command. Answers its exit code and what it printed. */
async function runWith(args: readonly string[], url?: string): Promise<[number, string]> {
  let printed = "";
  const code = await run(args, {
    url,
    print: (text) => void (printed += text),
    connect: () =>
      Promise.resolve({
        ...fromPostgresJs(fixture.owner),
        [Symbol.asyncDispose]: () => Promise.resolve(),
      }),
  });
  return [code, printed];
}

describe("npx @lookaside/changes", () => {
  beforeAll(async () => {
    fixture = await createChangesDatabase();
    await fixture.owner.unsafe(
      `CREATE TABLE orders (id INT PRIMARY KEY, customer_id INT, status TEXT);
       CREATE SCHEMA sales; CREATE TABLE sales."Order's" (a INT, b INT, PRIMARY KEY (a, b))`,
    );
  });
  afterAll(async () => {
    await fixture[Symbol.asyncDispose]();
  });

  it("sql prints what the installation runs", async () => {
    assertEquals(await runWith(["sql"]), [0, changesSql]);
  });

  it("watch and unwatch print a statement for psql, where there is no database", async () => {
    const [code, statement] = await runWith(
      ["watch", "sales.Order's", "a", "--key", "a,b", "--matter", "a"],
    );
    assertEquals(code, 0);
    assertEquals(
      statement,
      `SELECT lookaside.watch('sales."Order''s"', columns => '{a}', key => '{a,b}', ` +
        "matter => '{a}') AS changed;\n",
    );
    await fixture.owner.unsafe(statement);
    const [, undo] = await runWith(["unwatch", "sales.Order's"]);
    await fixture.owner.unsafe(undo);
    assertEquals((await fixture.owner`SELECT label FROM lookaside.watched`).length, 0);
  });

  it("watch, status and unwatch tell how things stand", async () => {
    const url = fixture.urls.owner;
    assertEquals(await runWith(["status"], url), [0, "no table is watched\n"]);
    const watch = ["watch", "orders", "customer_id", "--matter", "status"];
    assertEquals(await runWith(watch, url), [0, "watched\n"]);
    assertEquals(await runWith(watch, url), [0, "nothing to do: it is watched\n"]);
    const about = "orders: key (id), columns (customer_id), only if they or (status) change\n";
    assertEquals(await runWith(["status"], url), [0, about]);
    await fixture.owner.unsafe("ALTER TABLE orders RENAME TO gone");
    const [code, printed] = await runWith(["status"], url);
    assertEquals(code, 1);
    assertMatch(printed, /WRONG: There is no table public\.orders\. SELECT lookaside\.forget/);
    await fixture.owner.unsafe("ALTER TABLE gone RENAME TO orders");
    assertEquals(await runWith(["unwatch", "orders"], url), [0, "unwatched\n"]);
    assertEquals(await runWith(["unwatch", "orders"], url), [
      0,
      "nothing to do: it is unwatched\n",
    ]);
  });

  it("status names a table whose label is a hash", async () => {
    const url = fixture.urls.owner;
    await runWith(["watch", "sales.Order's"], url);
    const [, printed] = await runWith(["status"], url);
    assertMatch(
      printed,
      /^sales\.#[0-9a-f]{40} \(sales\."Order's"\): key \(a, b\), columns \(\)\n$/,
    );
    await runWith(["unwatch", "sales.Order's"], url);
  });

  it("watches a table whose name is quoted, as status shows it", async () => {
    const url = fixture.urls.owner;
    await fixture.owner.unsafe(
      `CREATE SCHEMA "My Shop"; CREATE TABLE "My Shop"."Or.ders ""x" (id INT PRIMARY KEY);
      CREATE TABLE "Plain" (id INT PRIMARY KEY); CREATE TABLE sales."Or.ders" (id INT PRIMARY KEY)`,
    );
    const names = ['"My Shop"."Or.ders ""x"', '"Plain"', 'sales."Or.ders"', '"sales"."Or.ders"'];
    for (const name of names) {
      assertEquals(await runWith(["watch", name], url), [0, "watched\n"], name);
      assertEquals(await runWith(["unwatch", name], url), [0, "unwatched\n"], name);
    }
  });

  it("status tells of a cache that has never looked", async () => {
    const { owner, urls } = fixture;
    await owner`INSERT INTO lookaside.caches (name, origin, keep) VALUES ('new', '', '5min')`;
    assertStringIncludes((await runWith(["status"], urls.owner))[1], "cache new: has not looked\n");
    await owner`DELETE FROM lookaside.caches`;
  });

  it("status tells of a schema of an earlier version, which install puts right", async () => {
    const url = fixture.urls.owner;
    await fixture.owner`UPDATE lookaside.installed SET version = version - 1`;
    const [code, printed] = await runWith(["status"], url);
    assertEquals(code, 1);
    assertMatch(printed, /^WRONG: The schema lookaside has version .*changes install/);
    await runWith(["install"], url);
    assertEquals((await runWith(["status"], url))[0], 0);
  });

  it("does nothing if an argument is left over", async () => {
    const url = fixture.urls.owner;
    for (const command of ["sql", "install", "status", "unwatch orders"]) {
      const args = [...command.split(" "), "paid"];
      await assertRejects(() => runWith(args, url), TypeError, "unexpected argument paid");
    }
  });

  it("does nothing if an option is not one of the command", async () => {
    const url = fixture.urls.owner;
    for (
      const [command, option] of [
        ["sql", "--database"],
        ["status", "--key"],
        ["unwatch orders", "--matter"],
        ["watch orders", "--service"],
        ["install", "--key"],
      ] as const
    ) {
      const args = [...command.split(" "), option, "x"];
      await assertRejects(() => runWith(args, url), TypeError, `unexpected option ${option}`);
    }
  });

  it("takes no text for an address that is none, and an empty variable for none", async () => {
    await assertRejects(
      () => runWith(["status"], "nonsense"),
      TypeError,
      "begins with postgres://",
    );
    await assertRejects(() => runWith(["status"], ""), TypeError, "set DATABASE_URL");
    const args = ["watch", "orders", "--database", ""];
    await assertRejects(() => runWith(args, fixture.urls.owner), TypeError, "begins with postgres");
    assertEquals((await runWith(["sql"], "nonsense"))[0], 0);
  });

  it("says what to do where the schema is missing, or the role may not", async () => {
    const reasonOf = async (statement: string, by = fixture.owner) =>
      explained(await by.unsafe(statement).catch((error: unknown) => error));
    assertMatch(await reasonOf("SELECT 1 FROM lookaside.none"), /changes install$/);
    const stranger = fixture.connect((await fixture.makeRole()).url);
    assertMatch(
      await reasonOf("SELECT lookaside.watch('orders')", stranger),
      /as the owner of the/,
    );
    assertMatch(
      await reasonOf("DO $$ BEGIN RAISE 'no' USING HINT = 'so'; END $$"),
      /^no\nso$/,
    );
    assertEquals(explained(new AggregateError([new Error("refused")])), "refused");
  });

  it("goes on where nobody reads what it prints", async () => {
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--no-check",
        fileURLToPath(import.meta.resolve("../../changes/cli.ts")),
        "sql",
      ],
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    await child.stdout.cancel();
    assertEquals(await new Response(child.stderr).text(), "");
    assertEquals((await child.status).code, 0);
  });

  it("install may run again, and lets a role relay", async () => {
    const { serviceRole, urls } = fixture;
    assertEquals(await runWith(["install", "--service", serviceRole], urls.owner), [
      0,
      "installed\n",
    ]);
  });

  it("install takes the name of a role as it is, or quoted", async () => {
    const { urls, serviceRole: role, admin } = fixture;
    const name = `${role}@X.iam`;
    await admin.unsafe(`ALTER ROLE ${role} RENAME TO "${name}"`);
    try {
      for (const service of [name, `"${name}"`]) {
        assertEquals((await runWith(["install", "--service", service], urls.owner))[0], 0);
      }
    } finally {
      await admin.unsafe(`ALTER ROLE "${name}" RENAME TO ${role}`);
    }
  });

  it("says what it does not know, and what it lacks", async () => {
    assertStringIncludes((await runWith([]))[1], "npx @lookaside/changes COMMAND");
    await assertRejects(() => runWith(["frob"], "postgres://"), TypeError, "no such command");
    await assertRejects(() => runWith(["status"]), TypeError, "DATABASE_URL");
    await assertRejects(() => runWith(["watch"]), TypeError, "name a table");
    await assertRejects(
      () => runWith(["watch", "nothing"], "postgres://"),
      Error,
      "does not exist",
    );
  });
});
