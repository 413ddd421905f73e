import { assert, assertEquals, assertLessOrEqual, assertRejects } from "@std/assert";
import { afterAll, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { connect } from "@db/driver";
import type { Database, Queryable, SqlValue } from "../../db/database.ts";
import { migrate } from "../../db/migrate.ts";
import { seedUsers } from "../../db/seed_users.ts";
import type { TableRows } from "../../db/table_rows.ts";
import type { Key } from "../../db/table_statements.ts";
import { usersRows } from "../support/users_rows.ts";
import { createTestDatabase, type TestDatabase } from "../support/test_database.ts";

const fields = { name: "Ann", email: "ann@example.com", bio: null };
const hostileTexts = [
  "'); DROP TABLE users; --",
  "' OR '1'='1",
  "x', email = 'stolen' WHERE id = 1; --",
  "$1",
  "\\'; SELECT pg_sleep(10); --",
];

/** Passes statements on, notes them, and can hold answers back. */
class Recorder implements Queryable {
  readonly texts: string[] = [];
  readonly #database: Queryable;
  /** Resolved once the first statement has read its rows. */
  read = Promise.withResolvers<void>();
  /** What the answers of statements sent from now on wait for. */
  answers: Promise<void> = Promise.resolve();

  constructor(database: Queryable) {
    this.#database = database;
  }

  async query<Row>(text: string, values?: readonly SqlValue[]): Promise<Row[]> {
    this.texts.push(text);
    const { answers } = this;
    const rows = await this.#database.query<Row>(text, values);
    this.read.resolve();
    await answers;
    return rows;
  }
}

let testDatabase: TestDatabase;
let database: Database;
let recorder: Recorder;
let users: TableRows;

const keyOf = (id: number): Key => [`${id}`];

describe("TableRows of users", () => {
  beforeAll(async () => {
    testDatabase = await createTestDatabase();
    database = connect({ url: testDatabase.url });
    await migrate(database);
  });
  afterAll(async () => {
    await database.close();
    await testDatabase[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await seedUsers(database, { count: 120, reset: true });
    recorder = new Recorder(database);
    users = usersRows(recorder);
    await users.shape(); // asked once
    recorder.texts.length = 0;
    recorder.read = Promise.withResolvers();
  });

  it("find() answers the row, with created_at as an ISO string in JSON", async () => {
    const user = await users.find(keyOf(7));
    const { created_at, ...rest } = JSON.parse(JSON.stringify(user));
    assertEquals(rest, {
      id: 7,
      name: "User 7",
      email: "user7@example.com",
      bio: "This is the bio for user 7. Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
    });
    assertEquals(new Date(created_at).toISOString(), created_at);
    assertEquals(Object.keys(user ?? {}), ["id", "name", "email", "bio", "created_at"]);
  });

  it("find() answers undefined for an id that is not there", async () => {
    assertEquals(await users.find(keyOf(2 ** 31 - 1)), undefined);
  });

  it("find() of 100 ids in one tick is one query, and each caller gets its own row", async () => {
    const ids = Array.from({ length: 100 }, (_, index) => 120 - index);
    const found = await Promise.all([...ids, 5_000, 7, 7].map((id) => users.find(keyOf(id))));
    assertEquals(found.map((user) => user?.id), [...ids, undefined, 7, 7]);
    assertEquals(recorder.texts.length, 1);
  });

  it("find() from callers that woke in different microtasks of one tick shares a query", async () => {
    await Promise.all(Array.from({ length: 100 }, async (_, index) => {
      for (let waits = 0; waits < index; waits++) await Promise.resolve();
      assertEquals((await users.find(keyOf(index + 1)))?.id, index + 1);
    }));
    assertLessOrEqual(recorder.texts.length, 3);
  });

  it("find() of more ids than a batch holds splits them", async () => {
    const ids = Array.from({ length: 1_200 }, (_, index) => index + 1);
    const found = await Promise.all(ids.map((id) => users.find(keyOf(id))));
    assertEquals(found.filter((user) => user !== undefined).length, 120);
    assertEquals(recorder.texts.length, 3);
  });

  it("find() that begins after a write never joins a query sent before it", async () => {
    const held = Promise.withResolvers<void>();
    recorder.answers = held.promise;
    const early = users.find(keyOf(1));
    await recorder.read.promise;
    await usersRows(database).replace(keyOf(1), { ...fields, name: "New" });
    const late = users.find(keyOf(1));
    held.resolve();
    assertEquals((await early)?.name, "User 1");
    assertEquals((await late)?.name, "New");
    assertEquals(recorder.texts.length, 2);
  });

  it("find() asks anew each time", async () => {
    await users.find(keyOf(1));
    await database.query("UPDATE users SET name = 'Changed' WHERE id = 1");
    assertEquals((await users.find(keyOf(1)))?.name, "Changed");
  });

  it("findMany() answers those that exist, by id, in one query", async () => {
    const found = await users.findMany([3, 1, 3, 9_999].map(keyOf));
    assertEquals([...found.keys()].sort(), ["1", "3"]);
    assertEquals(found.get("3")?.name, "User 3");
    assertEquals(recorder.texts.length, 1);
    assertEquals((await users.findMany([])).size, 0);
    assertEquals(recorder.texts.length, 1);
  });

  it("list() answers pages in the order of ids, and none past the end", async () => {
    await database.query("UPDATE users SET bio = 'moved' WHERE id = 3");
    const ids = async (page: number, limit: number) =>
      (await users.list({ where: {}, offset: (page - 1) * limit, limit })).map((user) => user.id);
    assertEquals(await ids(1, 5), [1, 2, 3, 4, 5]);
    assertEquals(await ids(2, 5), [6, 7, 8, 9, 10]);
    assertEquals(await ids(12, 10), [111, 112, 113, 114, 115, 116, 117, 118, 119, 120]);
    assertEquals(await ids(13, 10), []);
  });

  it("list() answers what follows a key", async () => {
    await users.remove(keyOf(4));
    const ids = (await users.list({ where: {}, after: keyOf(2), limit: 3 })).map((user) => user.id);
    assertEquals(ids, [3, 5, 6]);
    assertEquals(await users.list({ where: {}, after: keyOf(120), limit: 3 }), []);
  });

  it("create() answers the new row with the next id", async () => {
    const { row: user } = await users.create(fields);
    assertEquals({ ...user, created_at: 0 }, { id: 121, ...fields, created_at: 0 });
    assertEquals(await users.find(keyOf(121)), user);
  });

  it("replace() overwrites every field, null included, and answers the row", async () => {
    const user = (await users.replace(keyOf(1), fields))?.row;
    assertEquals({ ...user, created_at: 0 }, { id: 1, ...fields, created_at: 0 });
    assertEquals(await users.find(keyOf(1)), user);
    assertEquals((await users.find(keyOf(2)))?.name, "User 2");
    assertEquals(await users.replace(keyOf(9_999), fields), undefined);
  });

  it("update() overwrites what is given and keeps the rest", async () => {
    const before = await users.find(keyOf(1));
    assert(before);
    assertEquals((await users.update(keyOf(1), { name: "Bea" }))?.row, { ...before, name: "Bea" });
    assertEquals((await users.update(keyOf(1), { bio: null }))?.row, {
      ...before,
      name: "Bea",
      bio: null,
    });
    assertEquals(
      (await users.update(keyOf(1), { email: "b@example.com", name: null }))?.row.name,
      null,
    );
    assertEquals(await users.update(keyOf(9_999), { name: "x" }), undefined);
    assertEquals((await users.find(keyOf(3)))?.name, "User 3");
  });

  it("remove() deletes once", async () => {
    assertEquals((await users.remove(keyOf(1)))?.row.name, "User 1");
    assertEquals(await users.find(keyOf(1)), undefined);
    assertEquals(await users.remove(keyOf(1)), undefined);
  });

  it("every write takes hostile text as a value, never as SQL", async () => {
    for (const text of hostileTexts) {
      const hostile = { name: text, email: text, bio: text };
      const created = await users.create(hostile);
      assertEquals(await users.find(keyOf(Number(created.row.id))), { ...created.row, ...hostile });
      assertEquals((await users.replace(keyOf(2), hostile))?.row.name, text);
      assertEquals((await users.update(keyOf(3), { bio: text }))?.row.bio, text);
    }
    const untouched = await users.find(keyOf(1));
    assertEquals([untouched?.name, untouched?.email], ["User 1", "user1@example.com"]);
    for (const sent of recorder.texts) {
      assert(!hostileTexts.some((text) => text !== "$1" && sent.includes(text)), sent);
    }
  });

  it("update() ignores fields it doesn't know, however they are spelt", async () => {
    const changes = JSON.parse(
      `{"name":"Bea","id":99,"name = 'x' --":"y","created_at":"2000-01-01","__proto__":{"bio":"z"}}`,
    );
    const before = await users.find(keyOf(1));
    assert(before);
    assertEquals((await users.update(keyOf(1), changes))?.row, { ...before, name: "Bea" });
  });

  it("find() refuses a key that is no number without running it", async () => {
    await assertRejects(() => users.find(["1); DROP TABLE users; --"]), Error);
    assertEquals((await users.find(keyOf(1)))?.id, 1);
  });
});
