/**
 * One suite for whatever `@db/driver` is mapped to.
 */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { afterAll, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { connect } from "@db/driver";
import { type Database, DatabaseUnavailableError, type SqlValue } from "../../db/database.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { createTestDatabase, type TestDatabase } from "../support/test_database.ts";

const hostileTexts = [
  "'); DROP TABLE notes; --",
  "' OR '1'='1",
  "$1",
  "\\'; SELECT pg_sleep(10); --",
  'tab\tnewline\nreturn\r"quotes" \\N {a,b}',
  "naïve 日本 🐘",
  "",
];

let testDatabase: TestDatabase;
let database: Database;

async function notes(): Promise<{ id: number; text: string | null }[]> {
  return await database.query("SELECT id, text FROM notes ORDER BY id");
}

describe("@db/driver", () => {
  beforeAll(async () => {
    testDatabase = await createTestDatabase();
    database = connect({ url: testDatabase.url, poolMax: 4 });
    await database.query("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)");
  });
  afterAll(async () => {
    await database.close();
    await testDatabase[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await database.query("TRUNCATE notes");
  });

  it("connect() gives Postgres the parameters of its URL", async () => {
    const url = new URL(testDatabase.url);
    url.searchParams.set("schema", 'public, "it\\s own"');
    url.searchParams.set("application_name", "shop");
    url.searchParams.set("options", "-c lock_timeout=7s -c work_mem=1MB");
    await using own = connect({ url: url.href });
    const names = ["search_path", "application_name", "lock_timeout", "work_mem"];
    const settings = names.map((name) => `current_setting('${name}') AS ${name}`);
    assertEquals(await own.query(`SELECT ${settings.join(", ")}`), [{
      search_path: 'public, "it\\s own"',
      application_name: "shop",
      lock_timeout: "7s",
      work_mem: "1MB",
    }]);
    url.searchParams.set("nonsense", "1");
    await using refused = connect({ url: url.href });
    const error = await assertRejects(() => refused.query("SELECT 1"));
    assertMatch(String(error), /nonsense/);
  });

  it("connect() asks for the password of each connection", async () => {
    const asksForPassword = Uint8Array.of(0x52, 0, 0, 0, 8, 0, 0, 0, 3);
    const told: string[] = [];
    using server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const serving = (async () => {
      for await (using client of server) {
        const bytes = new Uint8Array(1_024);
        await client.read(bytes);
        await client.write(asksForPassword);
        const size = await client.read(bytes) ?? 0;
        told.push(new TextDecoder().decode(bytes.subarray(5, size - 1)));
      }
    })();
    let asked = 0;
    const url = `postgres://me@127.0.0.1:${server.addr.port}/x`;
    const own = connect({ url, password: () => `secret ${asked++}` });
    for (const _ of [1, 2]) await assertRejects(() => own.query("SELECT 1"));
    await own.close();
    server.close();
    await serving;
    assertEquals(told, ["secret 0", "secret 1"]);
  });

  it("pool() tells how many connections are in use, and what waits for one", async () => {
    const idle = { connectionsMax: 4, inUse: 0, waiting: 0 };
    assertEquals(database.pool(), idle);
    const running = Array.from({ length: 6 }, () => database.query("SELECT pg_sleep(0.2)"));
    await eventually(() => assertEquals(database.pool(), { ...idle, inUse: 4, waiting: 2 }));
    await Promise.all(running);
    assertEquals(database.pool(), idle);
  });

  it("query() answers values as JSON can carry them", async () => {
    const [row] = await database.query(
      `SELECT 1::int AS int, 1.5::float8 AS double, 9007199254740993::int8 AS bigint, true AS bool,
        'x'::varchar AS text, NULL::text AS none, '{"a":[1]}'::jsonb AS json, '{1,2}'::int[] AS ints,
        '{9007199254740993}'::int8[] AS bigints, ARRAY['a"b', NULL, 'c,d'] AS texts`,
    );
    const expected = {
      int: 1,
      double: 1.5,
      bigint: "9007199254740993",
      bool: true,
      text: "x",
      none: null,
      json: { a: [1] },
      ints: [1, 2],
      bigints: ["9007199254740993"],
      texts: ['a"b', null, "c,d"],
    };
    assertEquals(row, expected);
  });

  it("query() answers a TIMESTAMP as a Date, in local time", async () => {
    const [row] = await database.query<{ at: Date }>(
      "SELECT '2024-02-03 04:05:06.789'::timestamp AS at",
    );
    assertEquals(row?.at.getTime(), new Date("2024-02-03T04:05:06.789").getTime());
    assertMatch(JSON.stringify(row), /^\{"at":"2024-02-0\dT\d\d:05:06\.789Z"\}$/);
  });

  it("query() binds every kind of value and gets it back", async () => {
    const at = new Date("2024-02-03T04:05:06.789Z");
    const values: SqlValue[] = ["text", 7, 0.25, false, at, null, ['a"b', "c,d", "\\"], [3, 1], []];
    const rows = await database.query(
      `SELECT $1::text AS a, $2::int AS b, $3::float8 AS c, $4::bool AS d, $5::timestamptz AS e,
        $6::text AS f, $7::text[] AS g, $8::int[] AS h, $9::int[] AS i`,
      values,
    );
    const [a, b, c, d, e, f, g, h, i] = values;
    assertEquals(rows, [{ a, b, c, d, e, f, g, h, i }]);
  });

  it("query() takes hostile text as a value, never as SQL", async () => {
    for (const [id, text] of hostileTexts.entries()) {
      await database.query("INSERT INTO notes (id, text) VALUES ($1, $2)", [id, text]);
    }
    assertEquals((await notes()).map(({ text }) => text), hostileTexts);
  });

  it("query() without values runs several statements", async () => {
    await database.query("INSERT INTO notes VALUES (1, 'a'); INSERT INTO notes VALUES (2, 'b');");
    assertEquals((await notes()).length, 2);
  });

  it("query() passes an error of the statement on unchanged", async () => {
    const error = await assertRejects(() => database.query("SELECT 1 / $1::int", [0]), Error);
    assertEquals(error.message, "division by zero");
    assert(!(error instanceof DatabaseUnavailableError));
    assertEquals(await database.query("SELECT 1 AS one"), [{ one: 1 }]);
  });

  it("query() answers on every connection after its table has changed", async () => {
    await database.query("CREATE TABLE changed AS SELECT 1 AS a");
    const all = () =>
      Promise.all(
        Array.from(
          { length: 8 },
          () => database.query("SELECT changed.* FROM changed, pg_sleep($1)", [0.02]),
        ),
      );
    assertEquals(await all(), Array(8).fill([{ a: 1 }]));
    await database.query("ALTER TABLE changed ADD COLUMN b INT DEFAULT 2");
    for (let round = 0; round < 2; round++) {
      assertEquals(await all(), Array(8).fill([{ a: 1, b: 2 }]));
    }
  });

  it("query() runs more statements at once than there are connections", async () => {
    const ids = Array.from({ length: 100 }, (_, id) => id);
    const rows = await Promise.all(ids.map((id) => database.query("SELECT $1::int AS id", [id])));
    assertEquals(rows.flat(), ids.map((id) => ({ id })));
  });

  it("query() of a statement past the statement timeout is a DatabaseUnavailableError", async () => {
    await using hasty = connect({ url: testDatabase.url, statementTimeoutMs: 50 });
    await assertRejects(() => hasty.query("SELECT pg_sleep(5)"), DatabaseUnavailableError, "57014");
    assertEquals(await hasty.query("SELECT 1 AS one"), [{ one: 1 }]);
  });

  it("transaction() commits what its callback did, and answers what it answered", async () => {
    const answer = await database.transaction(async (transaction) => {
      await transaction.query("INSERT INTO notes VALUES ($1, 'in')", [1]);
      assertEquals(await notes(), []);
      return [Promise.resolve("a"), "b"].length;
    });
    assertEquals(answer, 2);
    assertEquals(await notes(), [{ id: 1, text: "in" }]);
  });

  it("transaction() rolls back when its callback rejects, and passes the rejection on", async () => {
    const reason = new RangeError("changed my mind");
    const error = await assertRejects(() =>
      database.transaction(async (transaction) => {
        await transaction.query("INSERT INTO notes VALUES (1, 'in')");
        throw reason;
      })
    );
    assert(error === reason);
    assertEquals(await notes(), []);
  });

  it("transaction() rolls back when a statement fails, and gives its connection back", async () => {
    for (let round = 0; round < 10; round++) {
      await assertRejects(
        () =>
          database.transaction(async (transaction) => {
            await transaction.query("INSERT INTO notes VALUES (1, 'in')");
            await transaction.query("SELECT 1 / $1::int", [0]);
          }),
        Error,
        "division by zero",
      );
    }
    assertEquals(await notes(), []);
  });

  it("transaction() rejects with what a statement met, though its callback goes on", async () => {
    await assertRejects(
      () =>
        database.transaction(async (transaction) => {
          await transaction.query("INSERT INTO notes VALUES (1, 'in')");
          await transaction.query("SELECT 1 / $1::int", [0]).catch(() => undefined);
          await transaction.query("SELECT 1").catch(() => undefined);
        }),
      Error,
      "division by zero",
    );
    assertEquals(await notes(), []);
  });

  it("transaction() whose connection is cut writes nothing, and the pool works on", async () => {
    for (const moment of ["while a statement runs", "between statements"]) {
      await assertRejects(() =>
        database.transaction(async (transaction) => {
          await transaction.query("INSERT INTO notes VALUES (1, $1)", [moment]);
          const [self] = await transaction.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
          const running = moment === "between statements"
            ? Promise.resolve()
            : transaction.query("SELECT pg_sleep(4)");
          // Observed below; until then its rejection must not count as unhandled.
          running.catch(() => undefined);
          await database.query("SELECT pg_terminate_backend($1, 2000)", [self?.pid ?? 0]);
          await running;
          await transaction.query("INSERT INTO notes VALUES (2, 'after')");
        }), DatabaseUnavailableError);
      const rows = await Promise.all(Array.from({ length: 20 }, notes));
      assertEquals(rows.flat(), []);
    }
  });

  it("listen() hears notifications until closed, or says that the driver cannot", async () => {
    const heard: string[] = [];
    const first = Promise.withResolvers<void>();
    let subscription;
    try {
      subscription = await database.listen("changes", (payload) => {
        heard.push(payload);
        first.resolve();
      });
    } catch (error) {
      assertMatch(String(error), /Cannot listen on changes: .* has no LISTEN/);
      return;
    }
    await database.query("SELECT pg_notify('changes', 'one')");
    await first.promise;
    await subscription[Symbol.asyncDispose]();
    await database.query("SELECT pg_notify('changes', 'two')");
    assertEquals(heard, ["one"]);
  });

  it("close() lets a running statement finish, and refuses later ones", async () => {
    const closing = connect({ url: testDatabase.url });
    await closing.query("SELECT 1");
    const running = closing.query("SELECT 1 AS one, pg_sleep(0.2)::text");
    await closing.query("SELECT 1");
    const [rows] = await Promise.all([running, closing.close()]);
    assertEquals(rows.length, 1);
    await assertRejects(() => closing.query("SELECT 1"), DatabaseUnavailableError);
    await closing.close();
  });
});
