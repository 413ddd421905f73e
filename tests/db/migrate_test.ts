import { assertEquals, assertRejects } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { connect } from "@db/driver";
import type { Database } from "../../db/database.ts";
import {
  migrate,
  type Migration,
  MigrationChangedError,
  readMigrations,
} from "../../db/migrate.ts";
import { createTestDatabase, type TestDatabase } from "../support/test_database.ts";

const one: Migration = {
  number: 1,
  name: "0001_one.sql",
  sql: "CREATE TABLE one (id INTEGER);\nINSERT INTO one VALUES (1);",
};
const two: Migration = {
  number: 2,
  name: "0002_two.sql",
  sql: "INSERT INTO one SELECT id + 1 FROM one;",
};

let testDatabase: TestDatabase;
let database: Database;

async function ids(): Promise<number[]> {
  const rows = await database.query<{ id: number }>("SELECT id FROM one ORDER BY id");
  return rows.map(({ id }) => id);
}

describe("migrate()", () => {
  beforeEach(async () => {
    testDatabase = await createTestDatabase();
    database = connect({ url: testDatabase.url });
  });
  afterEach(async () => {
    await database.close();
    await testDatabase[Symbol.asyncDispose]();
  });

  it("applies each migration once, in order, and answers which", async () => {
    assertEquals(await migrate(database, [one]), ["0001_one.sql"]);
    assertEquals(await migrate(database, [one, two]), ["0002_two.sql"]);
    assertEquals(await migrate(database, [one, two]), []);
    assertEquals(await ids(), [1, 2]);
  });

  it("applies each migration once when several migrate at the same time", async () => {
    const others = [1, 2, 3].map(() => connect({ url: testDatabase.url }));
    const applied = await Promise.all(
      [database, ...others].map((each) => migrate(each, [one, two])),
    );
    await Promise.all(others.map((each) => each.close()));
    assertEquals(applied.flat().sort(), ["0001_one.sql", "0002_two.sql"]);
    assertEquals(await ids(), [1, 2]);
  });

  it("refuses when a migration that was applied has changed, and applies nothing after it", async () => {
    await migrate(database, [one]);
    const changed = { ...one, sql: `${one.sql} -- later` };
    await assertRejects(
      () => migrate(database, [changed, two]),
      MigrationChangedError,
      "Cannot migrate: 0001_one.sql is not what was applied",
    );
    assertEquals(await ids(), [1]);
  });

  it("takes other line ends for no change", async () => {
    await migrate(database, [one]);
    assertEquals(await migrate(database, [{ ...one, sql: one.sql.replaceAll("\n", "\r\n") }]), []);
  });

  it("leaves nothing of a migration that fails, and keeps those before it", async () => {
    const broken = { ...two, sql: "INSERT INTO one VALUES (2); SELECT 1 / 0;" };
    await assertRejects(() => migrate(database, [one, broken]), Error, "division by zero");
    assertEquals(await ids(), [1]);
    assertEquals(await migrate(database, [one, two]), ["0002_two.sql"]);
  });

  it("makes the table of users as the tutorial has it", async () => {
    const migrations = await readMigrations();
    assertEquals(migrations.map(({ number }) => number), migrations.map((_, index) => index + 1));
    assertEquals(await migrate(database), migrations.map(({ name }) => name));
    const columns = await database.query(
      `SELECT column_name, data_type, character_maximum_length AS length FROM information_schema.columns
       WHERE table_name = 'users' ORDER BY ordinal_position`,
    );
    assertEquals(columns, [
      { column_name: "id", data_type: "integer", length: null },
      { column_name: "name", data_type: "character varying", length: 100 },
      { column_name: "email", data_type: "character varying", length: 100 },
      { column_name: "bio", data_type: "text", length: null },
      { column_name: "created_at", data_type: "timestamp without time zone", length: null },
    ]);
  });

  it("adopts a table of users that is there already", async () => {
    await database.query(
      `CREATE TABLE users (id SERIAL PRIMARY KEY, name VARCHAR(100), email VARCHAR(100), bio TEXT,
        created_at TIMESTAMP DEFAULT NOW());
       INSERT INTO users (name) VALUES ('Old');`,
    );
    await migrate(database);
    assertEquals(await database.query("SELECT name FROM users"), [{ name: "Old" }]);
  });
});
