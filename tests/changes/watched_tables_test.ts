import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { afterAll, afterEach, beforeAll, describe, it } from "@std/testing/bdd";
import postgres from "postgres";
import type { TableUse } from "../../cache/mod.ts";
import { changesDatabase } from "../../changes/adapters/any_database.ts";
import type { ChangesDatabase } from "../../changes/database.ts";
import { checkWatched, installChanges } from "../../changes/install.ts";
import { WatchedTables, watchStatement } from "../../changes/watched_tables.ts";
import { createTestDatabase, type TestDatabase } from "../support/test_database.ts";

let testDatabase: TestDatabase;
let sql: ReturnType<typeof postgres>;
let database: ChangesDatabase;

const orders: TableUse = { schema: "public", name: "orders", key: ["id"], columns: [] };

async function watchedColumns(label = "orders"): Promise<readonly string[] | undefined> {
  const [row] = await database.query<{ columns: string[] }>(
    "SELECT columns FROM lookaside.watched WHERE label = $1::text",
    [label],
  );
  return row?.columns;
}

/** The database as a role sees it that may log in, and what it is granted. */
async function asRole(grants: (role: string) => readonly string[]) {
  const role = `role_${crypto.randomUUID().replaceAll("-", "")}`;
  await database.query(`CREATE ROLE ${role} LOGIN`);
  for (const grant of grants(role)) await database.query(grant);
  const url = new URL(testDatabase.url);
  url.username = role;
  const client = postgres(url.href, { max: 2, onnotice: () => undefined });
  return {
    database: changesDatabase(client),
    async [Symbol.asyncDispose]() {
      await client.end({ timeout: 1 });
      await database.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    },
  };
}

describe("WatchedTables", () => {
  beforeAll(async () => {
    testDatabase = await createTestDatabase();
    sql = postgres(testDatabase.url, { max: 4, onnotice: () => undefined });
    database = changesDatabase(sql);
    await installChanges(database);
    await database.query(
      `CREATE DOMAIN code AS text;
       CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
       CREATE TABLE orders (
         id BIGINT PRIMARY KEY, customer_id INT, status TEXT, price NUMERIC, code code, ref UUID,
         paid BOOLEAN, "Länge" DATE, name TEXT COLLATE caseless, seen_at TIMESTAMPTZ
       );
       CREATE SCHEMA "my sales";
       CREATE TABLE "my sales"."O'Brien\\" ("Org" INT, "u" TEXT, PRIMARY KEY ("Org", "u"))`,
    );
  });
  afterAll(async () => {
    await sql.end({ timeout: 1 });
    await testDatabase[Symbol.asyncDispose]();
  });
  afterEach(async () => {
    await database.query("SELECT lookaside.forget(label) FROM lookaside.watched");
  });

  it("watches a table that is not, and tells what is known of its columns", async () => {
    const table = await new WatchedTables(database).of({ ...orders, columns: ["customer_id"] })
      .table;
    assertEquals(table.columns, ["customer_id"]);
    assertEquals(Object.fromEntries(table.types), {
      id: "integer",
      customer_id: "integer",
      status: "text",
      price: "other",
      code: "text",
      ref: "uuid",
      paid: "boolean",
      Länge: "date",
      name: "other",
      seen_at: "other",
    });
  });

  it("knows no text of values by the name that another type has, nor of names, which are cut off", async () => {
    await database.query(
      `CREATE SCHEMA mine; CREATE DOMAIN mine.text AS numeric; CREATE DOMAIN amount AS mine.text;
       CREATE TYPE mine.uuid AS ENUM ('a'); CREATE DOMAIN kind AS mine.uuid;
       CREATE TABLE odd (id INT PRIMARY KEY, amount amount, kind kind, called NAME)`,
    );
    const { types } = await new WatchedTables(database).of({ ...orders, name: "odd" }).table;
    const expected = { id: "integer", amount: "other", kind: "text", called: "other" };
    assertEquals(Object.fromEntries(types), expected);
    await database.query("DROP TABLE odd; DROP DOMAIN amount, kind; DROP SCHEMA mine CASCADE");
  });

  it("adds columns to those that others have watched, also at the same time", async () => {
    const columns = ["customer_id", "status", "ref", "paid"];
    await Promise.all(
      columns.map((column) =>
        new WatchedTables(database).of({ ...orders, columns: [column] }).table
      ),
    );
    assertEquals([...await watchedColumns() ?? []].sort(), columns.toSorted());
    const { columns: known } = await new WatchedTables(database).of(orders).table;
    assertEquals(known.length, 4);
  });

  it("is installed, and adds columns, at the same time also where transactions are serializable", async () => {
    await using strict = await createTestDatabase();
    const clients = Array.from(
      { length: 4 },
      () =>
        postgres(strict.url, {
          max: 1,
          onnotice: () => undefined,
          connection: { default_transaction_isolation: "serializable" },
        }),
    );
    const databases = clients.map((client) => changesDatabase(client));
    await clients[0]?.unsafe(
      "CREATE TABLE orders (id INT PRIMARY KEY, a INT, b INT, c INT, d INT)",
    );
    await Promise.all(databases.map((each) => installChanges(each)));
    await Promise.all(
      databases.map((each, at) =>
        new WatchedTables(each).of({ ...orders, columns: ["abcd".charAt(at)] }).table
      ),
    );
    const rows = await clients[0]?.unsafe(
      "SELECT cardinality(columns) AS count FROM lookaside.watched",
    );
    assertEquals(rows?.[0]?.count, 4);
    for (const client of clients) await client.end({ timeout: 1 });
  });

  it("asks Postgres once for a use", async () => {
    let asked = 0;
    const counting: ChangesDatabase = {
      ...database,
      query: (text, parameters) => {
        asked++;
        return database.query(text, parameters);
      },
    };
    const tables = new WatchedTables(counting);
    await tables.of(orders).table;
    const before = asked;
    await Promise.all([tables.of(orders).table, tables.of({ ...orders }).table]);
    assertEquals(asked, before);
  });

  it("tells of the columns whose changes count, where not all do", async () => {
    await database.query("SELECT lookaside.watch('orders', '{customer_id}', matter => '{status}')");
    const { types } = await new WatchedTables(database).of(orders).table;
    assertEquals([...types.keys()], ["id", "customer_id", "status"]);
    await new WatchedTables(database).of({ ...orders, columns: ["paid"] }).table;
    const [row] = await database.query("SELECT matter FROM lookaside.watched");
    assertEquals({ ...row as object }, { matter: ["status"] });
  });

  it("watches by its primary key a table of which no rows are named, but not a part of it", async () => {
    const whole: TableUse = { ...orders, key: [] };
    await new WatchedTables(database).of(whole).table;
    const [row] = await database.query("SELECT key FROM lookaside.watched");
    assertEquals({ ...row as object }, { key: ["id"] });
    await new WatchedTables(database).of(orders).table; // by either
    await database.query("SELECT lookaside.watch('orders', matter => '{status}')");
    await assertRejects(() => new WatchedTables(database).of(whole).table, TypeError, "whole");
    await new WatchedTables(database).of(orders).table;
    await database.query("SELECT lookaside.forget(label) FROM lookaside.watched");
    await database.query(watchStatement(whole));
    await new WatchedTables(database).of(orders).table;
  });

  it("takes names with every character", async () => {
    const use: TableUse = {
      schema: "my sales",
      name: "O'Brien\\",
      key: ["Org", "u"],
      columns: ["u"],
    };
    await new WatchedTables(database).of(use).table;
    await database.query("SELECT lookaside.forget(label) FROM lookaside.watched");
    await database.query(watchStatement(use));
    assertEquals((await new WatchedTables(database).of(use).table).columns, ["u"]);
  });

  it("refuses tables, columns and keys that are not there, and goes on refusing", async () => {
    const tables = new WatchedTables(database);
    const bad: Readonly<Record<string, TableUse>> = {
      "no such table": { ...orders, name: "nothing" },
      'no column "nothing"': { ...orders, columns: ["nothing"] },
      '\'no column "nothing"': { ...orders, key: ["nothing"] },
      "no unique index": { ...orders, key: ["status"] },
    };
    for (const [message, use] of Object.entries(bad)) {
      const text = message.replace(/^'/, "");
      const first = await assertRejects(() => tables.of(use).table, TypeError, text);
      assertEquals(await tables.of(use).table.catch((error: unknown) => error), first);
    }
    await tables.of(orders).table;
    await assertRejects(
      () => tables.of({ ...orders, key: ["customer_id"] }).table,
      TypeError,
      "it is watched by (id)",
    );
  });

  it("says which statement the owner has to run, where the role may not", async () => {
    await using role = await asRole((name) => [`SELECT lookaside.admit('${name}')`]);
    const tables = new WatchedTables(role.database);
    const use = { ...orders, columns: ["customer_id"] };
    const { message } = await assertRejects(() => tables.of(use).table, TypeError);
    const [, statement] = message.split("Its owner has to run: ");
    assert(statement !== undefined, message);
    await database.query(statement);
    await assertRejects(() => tables.of(use).table, TypeError); // not asked again by each read
    assertEquals(await tables.recheck(), []);
    assertEquals((await tables.of(use).table).columns, ["customer_id"]);
  });

  it("names no statement for the owner of what nobody may watch", async () => {
    await database.query("CREATE VIEW seen AS SELECT id FROM orders");
    const { message } = await assertRejects(
      () => new WatchedTables(database).of({ ...orders, name: "seen" }).table,
      TypeError,
    );
    await database.query("DROP VIEW seen");
    assertEquals(
      message,
      "Cannot use the table public.seen: Cannot watch public.seen: it is no table",
    );
  });

  it("takes no notice of a temporary table that inherits, whose rows only its session sees", async () => {
    await database.query(
      "CREATE TABLE stock (id INT PRIMARY KEY); SELECT lookaside.watch('stock')",
    );
    const other = postgres(testDatabase.url, { max: 1, onnotice: () => undefined });
    await other.unsafe("CREATE TEMPORARY TABLE mine () INHERITS (stock)");
    assertEquals(await checkWatched(database), []);
    await new WatchedTables(database).of({ ...orders, name: "stock" }).table;
    await other.end({ timeout: 1 });
    await database.query("DROP TABLE stock CASCADE");
  });

  it("has a table repaired that took the place of another one, and was watched by another name", async () => {
    await database.query(
      `CREATE TABLE stock (id INT PRIMARY KEY); CREATE TABLE stock_new (id INT PRIMARY KEY);
       SELECT lookaside.watch('stock'), lookaside.watch('stock_new');
       ALTER TABLE stock RENAME TO stock_old; ALTER TABLE stock_new RENAME TO stock`,
    );
    await new WatchedTables(database).of({ ...orders, name: "stock" }).table;
    await database.query("DELETE FROM lookaside.outbox; INSERT INTO stock VALUES (1)");
    const rows = await database.query<{ label: string }>("SELECT label FROM lookaside.outbox");
    assertEquals(rows.map(({ label }) => label), ["stock"]);
    await database.query("DROP TABLE stock, stock_old");
  });

  it("has what was watched repaired, where the role may not watch", async () => {
    await database.query(
      `CREATE TABLE events (id INT PRIMARY KEY) PARTITION BY RANGE (id);
       SELECT lookaside.watch('events');
       CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (9)`,
    );
    await using role = await asRole((name) => [`SELECT lookaside.admit('${name}')`]);
    await new WatchedTables(role.database).of({ ...orders, name: "events" }).table;
    const triggers = await database.query(
      "SELECT 1 FROM pg_trigger WHERE tgrelid = 'events_1'::REGCLASS",
    );
    assertEquals(triggers.length, 4);
    await database.query("DROP TABLE events");
  });

  describe("recheck() tells of a table that was watched, and whose changes go unnoticed since", () => {
    const statements: Readonly<Record<string, string>> = {
      "it became a part of another table":
        `CREATE TABLE all_stock (LIKE stock INCLUDING ALL) PARTITION BY RANGE (id);
         ALTER TABLE all_stock ATTACH PARTITION stock FOR VALUES FROM (0) TO (9)`,
      "one of another role took its place": `DROP TABLE stock;
         CREATE TABLE stock (id INT PRIMARY KEY); ALTER TABLE stock OWNER TO stranger`,
      "a crash empties it, and says nothing": "ALTER TABLE stock SET UNLOGGED",
      "it got a part of another server": `CREATE FOREIGN DATA WRAPPER w;
         CREATE SERVER s FOREIGN DATA WRAPPER w;
         CREATE FOREIGN TABLE stock_1 () INHERITS (stock) SERVER s`,
    };
    for (const [why, statement] of Object.entries(statements)) {
      it(why, async () => {
        // The owner of the schema is no superuser, as on a hosted Postgres.
        await database.query("CREATE ROLE stranger; CREATE ROLE keeper");
        await database.query(
          "CREATE TABLE stock (id INT PRIMARY KEY); ALTER TABLE stock OWNER TO keeper",
        );
        await database.query("SELECT lookaside.watch('stock')");
        await database.query("ALTER FUNCTION lookaside.check() OWNER TO keeper");
        await database.query(
          `GRANT ALL ON SCHEMA lookaside TO keeper; GRANT ALL ON ALL TABLES IN SCHEMA lookaside TO keeper;
           GRANT ALL ON ALL SEQUENCES IN SCHEMA lookaside TO keeper;
           GRANT ALL ON ALL FUNCTIONS IN SCHEMA lookaside TO keeper`,
        );
        try {
          await using role = await asRole((name) => [`SELECT lookaside.admit('${name}')`]);
          const tables = new WatchedTables(role.database);
          const use = { ...orders, name: "stock" };
          await tables.of(use).table;
          assertEquals(await tables.recheck(), []);
          await database.query(statement);
          assertEquals((await tables.recheck()).map(({ use: { name } }) => name), ["stock"]);
          await assertRejects(() => tables.of(use).table, TypeError, "Cannot watch public.stock");
        } finally {
          await database.query(
            `SELECT lookaside.forget('stock'); ALTER FUNCTION lookaside.check() OWNER TO CURRENT_USER;
             DROP TABLE IF EXISTS all_stock, stock CASCADE; DROP FOREIGN DATA WRAPPER IF EXISTS w CASCADE;
             DROP OWNED BY keeper; DROP ROLE keeper, stranger`,
          );
        }
      });
    }
  });

  it("says what to install where nothing is, and how to admit a role that was not", async () => {
    await using role = await asRole(() => []);
    const { message } = await assertRejects(
      () => new WatchedTables(role.database).of(orders).table,
      TypeError,
    );
    assertStringIncludes(message, "npx @lookaside/changes install --service ROLE");
    await using empty = await createTestDatabase();
    const client = postgres(empty.url, { max: 1, onnotice: () => undefined });
    const bare = new WatchedTables(changesDatabase(client));
    await assertRejects(() => bare.of(orders).table, TypeError, "npx @lookaside/changes sql");
    await client.end({ timeout: 1 });
  });

  it("recheck() watches again what is not any more, and tells what it cannot", async () => {
    const tables = new WatchedTables(database);
    await tables.of(orders).table;
    await database.query("SELECT lookaside.unwatch('orders')");
    assertEquals(await tables.recheck(), []);
    assertEquals(await watchedColumns(), []);
    await database.query("ALTER TABLE orders RENAME TO old_orders");
    try {
      const [lost] = await tables.recheck();
      assertEquals(lost?.use, orders);
      await assertRejects(() => tables.of(orders).table, TypeError, "no such table");
    } finally {
      await database.query("ALTER TABLE old_orders RENAME TO orders");
    }
    assertEquals(await tables.recheck(), []);
    await tables.of(orders).table;
  });

  it("recheck() goes on to the next table where one cannot be watched in time", async () => {
    await database.query("CREATE TABLE stock (id INT PRIMARY KEY)");
    const hasty = postgres(testDatabase.url, { connection: { statement_timeout: 200 } });
    const writer = postgres(testDatabase.url, { max: 1 });
    try {
      const tables = new WatchedTables(changesDatabase(hasty));
      await tables.of(orders).table;
      await tables.of({ ...orders, name: "stock" }).table;
      await database.query("SELECT lookaside.unwatch('orders')");
      await database.query("DROP TABLE stock");
      await writer.unsafe("BEGIN; LOCK TABLE orders IN ROW EXCLUSIVE MODE");
      const lost = await tables.recheck();
      assertEquals(lost.map(({ use: { name } }) => name), ["orders", "stock"]);
      await writer.unsafe("COMMIT");
      await tables.of(orders).table;
    } finally {
      await writer.end({ timeout: 1 });
      await hasty.end({ timeout: 1 });
    }
  });

  it("asks again where Postgres could not answer", async () => {
    let down = true;
    const flaky: ChangesDatabase = {
      ...database,
      query: (text, parameters) =>
        down ? Promise.reject(new Error("Postgres is down")) : database.query(text, parameters),
    };
    const tables = new WatchedTables(flaky);
    await assertRejects(() => tables.of(orders).table, Error, "down");
    down = false;
    await tables.of(orders).table;
    down = true;
    await assertRejects(() => tables.recheck(), Error, "down");
    await tables.of(orders).table; // what is known stays known
  });
});
