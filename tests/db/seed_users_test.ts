import { assert, assertEquals } from "@std/assert";
import { afterAll, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { connect } from "@db/driver";
import type { Database } from "../../db/database.ts";
import { migrate } from "../../db/migrate.ts";
import { isEmpty, seedUsers } from "../../db/seed_users.ts";
import { usersRows } from "../support/users_rows.ts";
import { createTestDatabase, type TestDatabase } from "../support/test_database.ts";

/** More rows than one batch has. */
const manyCount = 12_345;

let testDatabase: TestDatabase;
let database: Database;

/** All rows, with when and where they were written. */
function snapshot(): Promise<unknown[]> {
  return database.query("SELECT *, xmin::text AS version FROM users ORDER BY id");
}

async function idsSummary(): Promise<unknown> {
  const [row] = await database.query(
    "SELECT count(*)::int AS count, min(id) AS first, max(id) AS last FROM users",
  );
  return row;
}

async function nextId(): Promise<number> {
  const { row } = await usersRows(database).create({ name: "Next", email: null, bio: null });
  return Number(row.id);
}

describe("seedUsers()", () => {
  beforeAll(async () => {
    testDatabase = await createTestDatabase();
    database = connect({ url: testDatabase.url, statementTimeoutMs: 30_000 });
    await migrate(database);
  });
  afterAll(async () => {
    await database.close();
    await testDatabase[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await database.query("TRUNCATE users RESTART IDENTITY");
  });

  for (const count of [1_000, manyCount]) {
    it(`inserts ${count} users, and changes nothing when run again`, async () => {
      assert(await isEmpty(database));
      assertEquals(await seedUsers(database, { count }), count);
      assert(!await isEmpty(database));
      const before = await snapshot();
      assertEquals(await idsSummary(), { count, first: 1, last: count });
      assertEquals(await seedUsers(database, { count }), 0);
      assertEquals(await snapshot(), before);
      assertEquals(await nextId(), count + 1);
    });

    it(`inserts ${count} users once when two seed at the same time`, async () => {
      await using other = connect({ url: testDatabase.url, statementTimeoutMs: 30_000 });
      const inserted = await Promise.all([
        seedUsers(database, { count }),
        seedUsers(other, { count }),
      ]);
      assertEquals(inserted.reduce((sum, each) => sum + each, 0), count);
      assertEquals(await idsSummary(), { count, first: 1, last: count });
      assertEquals(await nextId(), count + 1);
    });

    it(`works over a single connection for ${count} users`, async () => {
      await using single = connect({ url: testDatabase.url, poolMax: 1 });
      assertEquals(await seedUsers(single, { count }), count);
    });
  }

  it("writes the users of the tutorial", async () => {
    await seedUsers(database);
    const [user] = await database.query("SELECT id, name, email, bio FROM users WHERE id = 1000");
    assertEquals(user, {
      id: 1000,
      name: "User 1000",
      email: "user1000@example.com",
      bio:
        "This is the bio for user 1000. Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
    });
  });

  it("restores what is missing and leaves what was changed", async () => {
    await seedUsers(database, { count: 10 });
    await database.query(
      "DELETE FROM users WHERE id = 3; UPDATE users SET name = 'Mine' WHERE id = 4",
    );
    assertEquals(await seedUsers(database, { count: 10 }), 1);
    assertEquals(await database.query("SELECT name FROM users WHERE id IN (3, 4) ORDER BY id"), [
      { name: "User 3" },
      { name: "Mine" },
    ]);
  });

  it("never moves the ids of later users back", async () => {
    await seedUsers(database, { count: 10 });
    assertEquals(await nextId(), 11);
    await database.query("DELETE FROM users WHERE id = 11");
    await seedUsers(database, { count: 10 });
    assertEquals(await nextId(), 12);
  });

  it("with reset removes every user first", async () => {
    await seedUsers(database, { count: 10 });
    await nextId();
    assertEquals(await seedUsers(database, { count: 5, reset: true }), 5);
    assertEquals(await idsSummary(), { count: 5, first: 1, last: 5 });
    assertEquals(await nextId(), 6);
  });

  it("tells how far it is, and last that all is done", async () => {
    for (const count of [1_000, manyCount]) {
      const told: number[] = [];
      await seedUsers(database, { count, reset: true, onProgress: (done) => told.push(done) });
      assertEquals(told.at(-1), count);
      assertEquals(told, told.toSorted((a, b) => a - b));
    }
  });
});
