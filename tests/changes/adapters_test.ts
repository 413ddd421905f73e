/**
 * One suite for every driver behind the port of the changes module.
 */
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { PGlite } from "@electric-sql/pglite";
// @ts-types="../support/pg.d.ts"
import pg from "pg";
import postgres from "postgres";
import { Cache } from "../../cache/mod.ts";
import { type AnyDatabase, changesDatabase } from "../../changes/adapters/any_database.ts";
import type { ChangesDatabase } from "../../changes/database.ts";
import { postgresChanges } from "../../changes/postgres_changes.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { createTestDatabase, type TestDatabase } from "../support/test_database.ts";

/** A driver's pool, and how it ends. */
interface Opened {
  readonly pool: AnyDatabase;
  readonly end: () => Promise<void>;
}

let testDatabase: TestDatabase;

const drivers: Readonly<Record<string, (url: string) => Opened | Promise<Opened>>> = {
  pg: (connectionString) => {
    const pool = new pg.Pool({ connectionString, max: 4 });
    // A connection that waits in the pool may be ended by the server.
    pool.on("error", () => undefined);
    return { pool, end: () => pool.end() };
  },
  postgres: (url) => {
    const sql = postgres(url, {
      max: 4,
      prepare: false,
      fetch_types: false,
      onnotice: () => undefined,
    });
    return { pool: sql, end: () => sql.end({ timeout: 1 }) };
  },
  PGlite: async () => {
    const pool = await PGlite.create();
    return { pool, end: () => pool.close() };
  },
};

describe("changesDatabase()", () => {
  beforeAll(async () => {
    testDatabase = await createTestDatabase();
  });
  afterAll(async () => {
    await testDatabase[Symbol.asyncDispose]();
  });

  for (const [name, open] of Object.entries(drivers)) {
    describe(`over ${name}`, () => {
      let opened: Opened;
      let database: ChangesDatabase;

      beforeAll(async () => {
        opened = await open(testDatabase.url);
        database = changesDatabase(opened.pool);
        await database.query("DROP TABLE IF EXISTS notes; CREATE TABLE notes (text TEXT)");
      });
      afterAll(() => opened.end());

      it("query() binds texts, numbers and nulls, and answers rows", async () => {
        const hostile = `'); DROP TABLE notes; -- $1 \\ "naïve" 日本 🐘 {a,b}`;
        const rows = await database.query(
          `SELECT $1::text AS text, $2::text::int8 + 1 = 9007199254740992 AS sum, $3::text AS none,
            $4::text::text[] = ARRAY['a,b', 'c'] AS list, $5::text::jsonb -> 0 = '7' AS json,
            $6::text AS empty, 7::int4 AS int`,
          [hostile, Number.MAX_SAFE_INTEGER, null, '{"a,b",c}', "[7]", ""],
        );
        const expected = { sum: true, none: null, list: true, json: true, empty: "", int: 7 };
        assertEquals(rows.map((row) => ({ ...row as object })), [{ text: hostile, ...expected }]);
        assertEquals(await database.query("SELECT 1 AS one WHERE false"), []);
      });

      it("query() runs several statements where none has parameters", async () => {
        await database.query("CREATE TABLE several (n INT); INSERT INTO several VALUES (1), (2)");
        assertEquals((await database.query("SELECT n FROM several")).length, 2);
        await database.query("DROP TABLE several");
      });

      it("query() rejects with the code of Postgres", async () => {
        const error = await assertRejects(() => database.query("SELECT 1 FROM missing"), Error);
        assertEquals(Reflect.get(error, "code"), "42P01");
      });

      it("leaves no prepared statement on a connection", async () => {
        await database.transaction((query) => query("SELECT $1::text", ["a"]));
        await database.transaction(async (query) => {
          await query("SELECT $1::text", ["a"]);
          await query("SELECT $1::text", ["b"]);
          assertEquals(await query("SELECT name FROM pg_prepared_statements WHERE name <> ''"), []);
        });
        await assertRejects(() => database.transaction((query) => query("SELECT 1 FROM missing")));
        assertEquals(await database.query("SELECT 1 FROM pg_prepared_statements"), []);
      });

      it("transaction() commits what its statements did together", async () => {
        const count = await database.transaction(async (query) => {
          await query("INSERT INTO notes VALUES ($1::text)", ["a"]);
          return (await query("SELECT text FROM notes")).length;
        });
        assertEquals(count, 1);
        assertEquals((await database.query("SELECT text FROM notes")).length, 1);
      });

      it("transaction() rolls back, and passes a rejection on unchanged", async () => {
        await database.query("TRUNCATE notes");
        const reason = new Error("no");
        const failed = database.transaction(async (query) => {
          await query("INSERT INTO notes VALUES ($1::text)", ["b"]);
          throw reason;
        });
        assertStrictEquals(await failed.catch((error: unknown) => error), reason);
        await assertRejects(() => database.transaction((query) => query("SELECT 1 FROM missing")));
        assertEquals(await database.query("SELECT text FROM notes"), []);
      });

      it("listen() is told of each notification until it ends", async () => {
        let told = 0;
        const lost: unknown[] = [];
        const listen = database.listen;
        assert(listen !== undefined);
        const listening = await listen("bell", () => void told++, (error) => void lost.push(error));
        const before = told; // that it listens may be told as well
        await database.query("NOTIFY bell");
        await eventually(() => assertEquals(told, before + 1));
        await listening[Symbol.asyncDispose]();
        await database.query("NOTIFY bell");
        await database.query("SELECT 1");
        assertEquals(told, before + 1);
        assertEquals(lost, []);
      });

      it("has a cache close whose pool has been ended meanwhile", async () => {
        const { pool, end } = await open(testDatabase.url);
        const port = changesDatabase(pool);
        const listens = Promise.withResolvers<void>();
        const cache = new Cache({
          changes: postgresChanges({
            ...port,
            async listen(...how: Parameters<NonNullable<ChangesDatabase["listen"]>>) {
              const listening = await port.listen?.(...how);
              assert(listening !== undefined);
              listens.resolve();
              return listening;
            },
          }),
        });
        await listens.promise;
        await Promise.all([end(), cache.close()]);
      });

      if (name === "PGlite") return; // there is no connection that could break
      it("transaction() rejects when its connection breaks, and the next one has another", async () => {
        const broken = database.transaction(async (query) => {
          const [own] = await query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
          await database.query("SELECT pg_terminate_backend($1::text::int)", [own?.pid ?? 0]);
          await query("SELECT 1");
        });
        await assertRejects(() => broken);
        for (let n = 0; n < 8; n++) {
          assertEquals(await database.transaction((query) => query("SELECT 1 AS one")), [{
            one: 1,
          }]);
        }
      });

      it("listen() says that its connection broke, or listens anew and says that", async () => {
        let told = 0;
        let lost = 0;
        const listening = await database.listen?.("bell", () => void told++, () => void lost++);
        const before = told;
        await database.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE query LIKE 'listen%bell%' OR query LIKE 'LISTEN%bell%'`,
        );
        await eventually(() => assert(lost === 1 || told > before));
        await listening?.[Symbol.asyncDispose]();
        assert(lost <= 1);
      });
    });
  }

  it("over a pool of pg with one connection does not take it for listening", () => {
    const pool = new pg.Pool({ connectionString: testDatabase.url, max: 1 });
    assertEquals(changesDatabase(pool).listen, undefined);
  });

  it("over a pool of pg gives no connection back in a transaction that it could not end in time", async () => {
    const { url: connectionString } = testDatabase;
    const pool = new pg.Pool({ connectionString, max: 1, query_timeout: 200 });
    const other = new pg.Pool({ connectionString });
    await using ends = new AsyncDisposableStack();
    for (const each of [pool, other]) ends.defer(() => each.end());
    const database = changesDatabase(pool);
    await database.query("CREATE TABLE written (n INT)");
    const late = database.transaction((query) => query("SELECT pg_sleep(1)"));
    await assertRejects(() => late, Error, "timeout");
    const running =
      "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(1)' AND state = 'active'";
    await eventually(async () => assertEquals((await other.query(running)).rows, []));
    await database.query("INSERT INTO written VALUES (1)");
    assertEquals((await other.query("SELECT n FROM written")).rows, [{ n: 1 }]);
  });

  it("over @db/postgres gives each connection back", async () => {
    const statements: string[] = [];
    let free = 1;
    const queryObject = <Row>(sql: string): Promise<{ rows: Row[] }> => {
      statements.push(sql);
      return sql === "bad" ? Promise.reject(new Error("bad")) : Promise.resolve({ rows: [] });
    };
    const connect = () => {
      free--;
      return Promise.resolve({ queryObject, release: () => void free++ });
    };
    const database = changesDatabase({ available: 1, connect });
    await database.transaction((query) => query("good"));
    await assertRejects(() => database.transaction((query) => query("bad")), Error, "bad");
    await database.query("good");
    assertEquals(statements, ["BEGIN", "good", "COMMIT", "BEGIN", "bad", "ROLLBACK", "good"]);
    assertEquals(free, 1);
    assertEquals(database.listen, undefined);
  });

  it("over postgres leaves no connection that listens when the client was ended before", async () => {
    const sql = postgres(testDatabase.url, { max: 1, fetch_types: false });
    const other = postgres(testDatabase.url, { max: 1, fetch_types: false });
    await using ends = new AsyncDisposableStack();
    for (const each of [sql, other]) ends.defer(() => each.end());
    await sql.end();
    const listening = changesDatabase(sql).listen?.("late", () => undefined, () => undefined);
    await assertRejects(async () => void await listening, Error, "CONNECTION_ENDED");
    await eventually(async () => {
      const left = await other`SELECT pid FROM pg_stat_activity WHERE query LIKE '%listen "late"'`;
      assertEquals([...left], []);
    });
  });

  it("refuses a client of postgres that names the columns of answers otherwise", () => {
    changesDatabase(postgres(testDatabase.url, { transform: postgres.camel }));
    const { pascal } = postgres;
    assertThrows(
      () => changesDatabase(postgres(testDatabase.url, { transform: pascal })),
      TypeError,
      "Cannot use a client of postgres whose `transform` makes NowMs of the column nowMs",
    );
  });

  it("takes the port itself, and refuses what is no database", async () => {
    const port: ChangesDatabase = {
      query: () => Promise.resolve([]),
      transaction: () => Promise.reject(new Error("none")),
    };
    assertEquals(await changesDatabase(port).query("SELECT 1"), []);
    const client = new pg.Client({ connectionString: testDatabase.url });
    for (
      const none of [{}, { query() {} }, { connect() {} }, client, testDatabase.url, undefined]
    ) {
      assertThrows(() => changesDatabase(none as never), TypeError, "Cannot use this");
    }
  });
});
