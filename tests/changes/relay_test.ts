import { assert, assertEquals, assertRejects } from "@std/assert";
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { connect } from "@db/driver";
import { type Change, ChangeFeed, type ChangeFeedOptions } from "../../changes/relay.ts";
import type { Database, SqlValue } from "../../db/database.ts";
import { migrate, readMigrations } from "../../db/migrate.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { createTestDatabase, type TestDatabase } from "../support/test_database.ts";

/** What the statement that selects rows to relay has, and no other of its transaction. */
const ROWS_OF_THE_OUTBOX = "FROM lookaside_outbox";

let testDatabase: TestDatabase;
let database: Database;
const feeds: ChangeFeed[] = [];

/** A feed that notes what it applies. */
function makeFeed(options: Partial<ChangeFeedOptions> = {}, on = database): {
  readonly feed: ChangeFeed;
  readonly applied: Change[];
} {
  const applied: Change[] = [];
  const feed = new ChangeFeed(on, {
    cacheName: "test",
    listen: false,
    pollMs: 10,
    reset: () => Promise.resolve(),
    apply: (changes) => {
      applied.push(...changes);
      return Promise.resolve();
    },
    ...options,
  });
  feeds.push(feed);
  return { feed, applied };
}

interface Row {
  readonly table_name: string;
  readonly ids: string[] | null;
}

async function allRows(): Promise<Row[]> {
  return await database.query("SELECT table_name, ids FROM lookaside_outbox ORDER BY id");
}

/** Rows that `cache` has not applied. */
async function openRows(cache = "test"): Promise<Row[]> {
  return await database.query(
    `SELECT table_name, ids FROM lookaside_outbox WHERE NOT EXISTS (
       SELECT 1 FROM lookaside_applied WHERE cache = $1 AND outbox_id = id
     ) ORDER BY id`,
    [cache],
  );
}

async function cacheNames(): Promise<string[]> {
  const rows = await database.query<{ name: string }>(
    "SELECT name FROM lookaside_caches ORDER BY name",
  );
  return rows.map(({ name }) => name);
}

/** Makes every reset older than any replay window. */
async function ageResets(): Promise<void> {
  await database.query("UPDATE lookaside_caches SET reset_at = reset_at - INTERVAL '1 hour'");
}

/** Registers a cache that nothing is to be missed by. */
async function register(...names: string[]): Promise<void> {
  for (const cacheName of names) await makeFeed({ cacheName }).feed.catchUp({ replay: false });
}

/** The database, with `then` after each statement of a transaction. */
function afterEachStatement(
  then: (text: string, values?: readonly SqlValue[]) => Promise<void>,
): Database {
  return {
    query: (text, values) => database.query(text, values),
    transaction: (run) =>
      database.transaction((transaction) =>
        run({
          query: async <Row>(text: string, values?: readonly SqlValue[]): Promise<Row[]> => {
            const rows = await transaction.query<Row>(text, values);
            await then(text, values);
            return rows;
          },
        })
      ),
    copyFrom: (table, columns, rows) => database.copyFrom(table, columns, rows),
    listen: (channel, onNotify) => database.listen(channel, onNotify),
    pool: () => database.pool(),
    close: () => database.close(),
    [Symbol.asyncDispose]: () => database.close(),
  };
}

/** A node of a plan, as Postgres explains it. */
interface PlanNode {
  readonly "Actual Rows": number;
  readonly "Actual Loops": number;
  readonly "Rows Removed by Filter"?: number;
  readonly "Rows Removed by Join Filter"?: number;
  readonly Plans?: readonly PlanNode[];
}

/** How many rows Postgres goes through for a statement, in all steps of its plan. */
async function rowsGoneThrough(text: string, values: readonly SqlValue[]): Promise<number> {
  type Explained = Record<"QUERY PLAN", readonly [{ readonly Plan: PlanNode }]>;
  const [explained] = await database.query<Explained>(
    `EXPLAIN (ANALYZE, FORMAT JSON) ${text}`,
    values,
  );
  const sum = (node: PlanNode): number =>
    node["Actual Loops"] * (node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0) +
        (node["Rows Removed by Join Filter"] ?? 0)) +
    (node.Plans ?? []).reduce((total, each) => total + sum(each), 0);
  return explained === undefined ? NaN : sum(explained["QUERY PLAN"][0].Plan);
}

async function update(...ids: number[]): Promise<void> {
  for (const id of ids) await database.query("UPDATE users SET name = 'y' WHERE id = $1", [id]);
}

function idsOf(changes: readonly Change[]): string[] {
  return changes.flatMap(({ ids }) => ids ?? []).toSorted((a, b) => Number(a) - Number(b));
}

/** A write that is committed when it is told to. */
async function openWrite(id: number): Promise<{ commit(): Promise<void> }> {
  const written = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  const done = database.transaction(async (transaction) => {
    await transaction.query("UPDATE users SET name = 'slow' WHERE id = $1", [id]);
    written.resolve();
    await release.promise;
  });
  await written.promise;
  return {
    commit: () => {
      release.resolve();
      return done;
    },
  };
}

describe("the change feed", () => {
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
    await database.query("INSERT INTO users (name) SELECT 'x' FROM generate_series(1, 10)");
    await database.query("TRUNCATE lookaside_outbox, lookaside_applied, lookaside_caches");
  });
  afterEach(async () => {
    await Promise.all(feeds.splice(0).map((feed) => feed.close()));
  });

  describe("triggers", () => {
    const cases: readonly (readonly [string, readonly (readonly string[] | null)[]])[] = [
      ["INSERT INTO users (name) VALUES ('a'), ('b')", [["11", "12"]]],
      ["UPDATE users SET name = 'y' WHERE id IN (3, 4)", [["3", "4"]]],
      ["UPDATE users SET id = 99 WHERE id = 5", [["5", "99"]]],
      ["DELETE FROM users WHERE id = 6", [["6"]]],
      ["TRUNCATE users", [null]],
      ["UPDATE users SET name = 'y' WHERE id = 4711", []],
      ["DELETE FROM users WHERE id = 4711", []],
      ["INSERT INTO users (id, name) VALUES (1, 'z') ON CONFLICT DO NOTHING", []],
      // Both triggers of the statement fire; the one without rows leaves nothing.
      ["INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'z'", [["1"]]],
      ["INSERT INTO users (name) SELECT 'x' FROM generate_series(1, 1001)", [null]],
    ];
    for (const [statement, expected] of cases) {
      it(`record ${JSON.stringify(expected)} for ${statement}`, async () => {
        await database.query(statement);
        const rows = await allRows();
        assertEquals(rows.map(({ ids }) => ids === null ? null : ids.toSorted()), expected);
        assert(rows.every(({ table_name }) => table_name === "users"));
      });
    }

    it("list 1,000 ids and no more", async () => {
      await database.query("INSERT INTO users (name) SELECT 'x' FROM generate_series(1, 1000)");
      assertEquals((await allRows())[0]?.ids?.length, 1_000);
      await database.query("UPDATE users SET name = 'y' WHERE id > 10");
      assertEquals((await allRows())[1]?.ids?.length, 1_000);
      await database.query("UPDATE users SET name = 'z' WHERE id > 9");
      assertEquals((await allRows())[2]?.ids, null);
    });

    it("leave nothing of a transaction that is rolled back", async () => {
      const failure = new Error("no");
      await assertRejects(
        () =>
          database.transaction(async (transaction) => {
            await transaction.query("UPDATE users SET name = 'y'");
            throw failure;
          }),
        Error,
        "no",
      );
      assertEquals(await allRows(), []);
    });

    it("are attached to another table by one line, and detached by one", async () => {
      await database.query("CREATE TABLE orders (number TEXT PRIMARY KEY, total INTEGER)");
      await database.query("SELECT lookaside_watch('orders', 'number')");
      await database.query("INSERT INTO orders VALUES ('A-1', 3)");
      assertEquals(await allRows(), [{ table_name: "orders", ids: ["A-1"] }]);
      await database.query("SELECT lookaside_watch('orders', 'number')"); // again is no harm
      await database.query("SELECT lookaside_unwatch('orders')");
      await database.query("DELETE FROM orders");
      assertEquals((await allRows()).length, 1);
      await assertRejects(() => database.query("SELECT lookaside_watch('orders', 'nope')"), Error);
      await database.query("DROP TABLE orders");
    });

    it("work for a writer who may not touch the outbox", async () => {
      await database.transaction(async (transaction) => {
        await transaction.query("CREATE ROLE writer_of_users");
        await transaction.query("GRANT UPDATE, SELECT ON users TO writer_of_users");
        await transaction.query("SET LOCAL ROLE writer_of_users");
        await transaction.query("UPDATE users SET name = 'y' WHERE id = 1");
        await transaction.query("RESET ROLE");
        await transaction.query("DROP OWNED BY writer_of_users");
        await transaction.query("DROP ROLE writer_of_users");
      });
      assertEquals((await allRows())[0]?.ids, ["1"]);
    });
  });

  it("applies each row once, however many relays a cache has", async () => {
    await register("test");
    const relays = [makeFeed(), makeFeed(), makeFeed()];
    for (const { feed } of relays) feed.start();
    await update(1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
    await eventually(async () => assertEquals(await openRows(), []));
    assertEquals(idsOf(relays.flatMap(({ applied }) => applied)), [..."123456789", "10"]);
  });

  it("applies each row to every cache, whichever relay comes first", async () => {
    await register("one", "other");
    const one = makeFeed({ cacheName: "one" });
    await update(1);
    await one.feed.catchUp({ replay: false });
    const other = makeFeed({ cacheName: "other" });
    await other.feed.catchUp({ replay: false });
    await update(2);
    one.feed.start();
    other.feed.start();
    for (const { feed, applied } of [one, other]) {
      await eventually(() => assertEquals(idsOf(applied), ["1", "2"]));
      // It is noted behind that.
      await eventually(async () => assertEquals((await feed.stats()).backlog, 0));
    }
  });

  it("does not wait for the relay of another cache", async () => {
    await register("slow", "test");
    const gate = Promise.withResolvers<void>();
    const held = Promise.withResolvers<void>();
    const slow = makeFeed({
      cacheName: "slow",
      apply: () => {
        held.resolve();
        return gate.promise;
      },
    });
    await update(1);
    slow.feed.start();
    await held.promise;
    const { feed, applied } = makeFeed();
    await feed.catchUp({ replay: false });
    assertEquals(idsOf(applied), ["1"]);
    gate.resolve();
  });

  it("keeps a row open when applying it fails, and tries again", async () => {
    await register("test");
    let failures = 0;
    const errors: unknown[] = [];
    const { feed } = makeFeed({
      apply: () => failures++ < 2 ? Promise.reject(new Error("Redis is away")) : Promise.resolve(),
      onError: (error) => errors.push(error),
    });
    await update(1);
    feed.start();
    await eventually(async () => assertEquals(await openRows(), []));
    assertEquals(failures, 3);
    assertEquals(errors.length, 2);
  });

  it("applies rows that are committed while a transaction stays open, and then its own", async () => {
    await register("test");
    const { feed, applied } = makeFeed();
    await update(1);
    const slow = await openWrite(2);
    await update(3);
    feed.start();
    await eventually(() => assertEquals(idsOf(applied), ["1", "3"]));
    await update(4);
    await eventually(() => assertEquals(idsOf(applied), ["1", "3", "4"]));
    await slow.commit();
    await eventually(() => assertEquals(idsOf(applied), ["1", "2", "3", "4"]));
    await feed.catchUp({ replay: false });
    assertEquals(idsOf(applied), ["1", "2", "3", "4"]); // each once
  });

  it("loses no row that is committed right after it has looked at the rows", async () => {
    await register("test");
    await update(1);
    let looks = 0;
    const { feed, applied } = makeFeed(
      {},
      afterEachStatement(async (text) => {
        if (text.includes(ROWS_OF_THE_OUTBOX) && looks++ === 0) await update(2);
      }),
    );
    await feed.catchUp({ replay: false });
    await feed.catchUp({ replay: false });
    assertEquals(idsOf(applied), ["1", "2"]);
    assert(looks > 1);
  });

  it("has done with a backlog once it is applied, also one of whole batches", async () => {
    const { feed } = makeFeed();
    await feed.catchUp({ replay: false });
    await database.query(
      `INSERT INTO lookaside_outbox (table_name, ids)
       SELECT 'users', ARRAY[i::TEXT] FROM generate_series(1, 200) AS i`,
    );
    await feed.catchUp({ replay: false });
    const lookedAtAgain = await database.query(
      `SELECT 1 FROM lookaside_outbox o JOIN lookaside_caches c ON o.xid >= c.watermark
       WHERE c.name = 'test'`,
    );
    assertEquals(lookedAtAgain.length, 0);
  });

  it("goes through no more rows for the many that are kept for a replay", async () => {
    await register("test");
    await database.query(
      `INSERT INTO lookaside_outbox (table_name, ids)
       SELECT 'users', ARRAY[i::TEXT] FROM generate_series(1, 5000) AS i`,
    );
    await makeFeed().feed.catchUp({ replay: false });
    for (const analyze of ["", "ANALYZE"]) {
      await database.query(analyze);
      await update(1);
      const counts: number[] = [];
      const { feed } = makeFeed(
        {},
        afterEachStatement(async (text, values = []) => {
          if (!text.includes(ROWS_OF_THE_OUTBOX)) return;
          counts.push(await rowsGoneThrough(text, values));
        }),
      );
      await feed.catchUp({ replay: false });
      assert(counts.length > 0 && counts.every((count) => count < 50), counts.join());
    }
  });

  it("merges a backlog into one change per table, in bounded batches", async () => {
    await register("test");
    for (let i = 0; i < 250; i++) await update(1 + i % 2);
    const { feed, applied } = makeFeed();
    assertEquals((await feed.stats()).backlog, 250);
    assert((await feed.stats()).lagMs > 0);
    feed.start();
    await eventually(async () => assertEquals((await feed.stats()).backlog, 0));
    assertEquals(applied.length, 3); // 100 + 100 + 50 rows
    assert(applied.every(({ ids }) => ids?.length === 2));
    assertEquals((await feed.stats()).applied, 250);
  });

  describe("registration", () => {
    it("resets a new cache once, after which it has nothing to apply", async () => {
      await update(1);
      // Other tests' transactions count: a row is applied that one of them is older than.
      await eventually(async () => {
        const [row] = await database.query<{ behind: boolean }>(
          `SELECT bool_and(xid < pg_snapshot_xmin(pg_current_snapshot())) AS behind
           FROM lookaside_outbox`,
        );
        assertEquals(row?.behind, true);
      });
      let resets = 0;
      const reset = async (): Promise<void> => {
        assertEquals(await cacheNames(), ["test"]); // committed before
        resets++;
      };
      const { feed, applied } = makeFeed({ reset });
      feed.start(); // who relays and who catches up find it unregistered together
      await feed.catchUp({ replay: false });
      await feed.catchUp({ replay: false });
      await makeFeed({ reset }).feed.catchUp({ replay: false });
      assertEquals([resets, applied], [1, []]);
    });

    it("is not over before the reset has succeeded, whoever began it", async () => {
      const died = makeFeed({ reset: () => Promise.reject(new Error("Redis is away")) });
      await assertRejects(() => died.feed.catchUp({ replay: false }), Error, "Redis is away");
      let resets = 0;
      const { feed } = makeFeed({
        reset: () => {
          resets++;
          return Promise.resolve();
        },
      });
      await feed.catchUp({ replay: false });
      assertEquals(resets, 1);
    });

    it("misses no change whose transaction was open then", async () => {
      const slow = await openWrite(1);
      await update(2); // ends after it: what is newest lies above the open one
      const { feed, applied } = makeFeed();
      await feed.catchUp({ replay: false });
      await update(3);
      await feed.catchUp({ replay: false });
      assert(!idsOf(applied).includes("1"));
      await slow.commit();
      await feed.catchUp({ replay: false });
      assertEquals(idsOf(applied), ["1", "2", "3"]);
    });

    it("that has expired is made anew, with a reset", async () => {
      let resets = 0;
      const { feed, applied } = makeFeed({
        reset: () => {
          resets++;
          return Promise.resolve();
        },
      });
      feed.start();
      await eventually(() => assertEquals(resets, 1));
      await database.query("DELETE FROM lookaside_caches");
      await eventually(() => assertEquals(resets, 2));
      await feed.catchUp({ replay: false });
      await update(1);
      await eventually(() => assertEquals(idsOf(applied), ["1"]));
      assertEquals(resets, 2);
    });

    it("of another server's transaction ids is made anew, with a reset", async () => {
      await register("test");
      await database.query("UPDATE lookaside_caches SET watermark = '1000000000000'::XID8");
      let resets = 0;
      const { feed, applied } = makeFeed({
        reset: () => {
          resets++;
          return Promise.resolve();
        },
      });
      feed.start();
      await eventually(() => assertEquals(resets, 1));
      await update(1);
      await eventually(() => assertEquals(idsOf(applied), ["1"]));
    });

    it("expires once a cache has been away for an hour, but not one's own", async () => {
      await register("away", "here", "test");
      await database.query(
        `UPDATE lookaside_caches SET seen_at = seen_at - INTERVAL '61 minutes' WHERE name <> 'here'`,
      );
      makeFeed().feed.start();
      await eventually(async () => assertEquals(await cacheNames(), ["here", "test"]));
      const [own] = await database.query<{ seen: boolean }>(
        "SELECT seen_at > now() - INTERVAL '1 minute' AS seen FROM lookaside_caches WHERE name = 'test'",
      );
      assertEquals(own?.seen, true);
    });

    it("ends on close where the cache does", async () => {
      const ending = makeFeed({ cacheName: "ending", cacheEnds: true });
      const staying = makeFeed({ cacheName: "staying" });
      for (const { feed } of [ending, staying]) {
        feed.start();
        await feed.catchUp({ replay: false });
      }
      assertEquals(await cacheNames(), ["ending", "staying"]);
      await Promise.all([ending.feed.close(), staying.feed.close()]);
      assertEquals(await cacheNames(), ["staying"]);
    });
  });

  it("catches up: resolves once what was committed before has been applied, even by another", async () => {
    await register("test");
    const gate = Promise.withResolvers<void>();
    const claimed = Promise.withResolvers<void>();
    const other = makeFeed({
      apply: async () => {
        claimed.resolve();
        await gate.promise;
      },
    });
    await update(1);
    other.feed.start();
    await claimed.promise;
    const { feed } = makeFeed();
    let caughtUp = false;
    const catching = feed.catchUp({ replay: false }).then(() => {
      caughtUp = true;
    });
    await database.query("SELECT pg_sleep(0.1)"); // it has had time to look
    assert(!caughtUp, "a row that another relay holds is still open");
    gate.resolve();
    await catching;
    assertEquals(await openRows(), []);
  });

  it("applies a row that comes while another relay of its cache holds the lock, long before its poll", async () => {
    await register("test");
    const gate = Promise.withResolvers<void>();
    const held = Promise.withResolvers<void>();
    // It does not look again by itself.
    const holder = makeFeed({
      apply: () => {
        held.resolve();
        return gate.promise;
      },
    });
    await update(1);
    const holding = holder.feed.catchUp({ replay: false });
    await held.promise;
    const refused = Promise.withResolvers<void>();
    const { feed, applied } = makeFeed(
      { pollMs: 60_000 },
      afterEachStatement((text) => {
        if (text.includes("pg_try_advisory_xact_lock")) refused.resolve();
        return Promise.resolve();
      }),
    );
    feed.start();
    await refused.promise;
    await update(2);
    gate.resolve();
    await holding;
    await eventually(() => assertEquals(idsOf(applied), ["2"]), { deadlineMs: 5_000 });
  });

  it("replays what its cache applied within the window, and nothing older", async () => {
    await register("other", "test");
    const { feed, applied } = makeFeed({ replayWindowMs: 60_000 });
    await update(1, 2);
    await feed.catchUp({ replay: false });
    await database.query(
      `UPDATE lookaside_applied SET applied_at = applied_at - INTERVAL '2 minutes'
       WHERE outbox_id = (SELECT min(id) FROM lookaside_outbox)`,
    );
    await update(3);
    await makeFeed({ cacheName: "other" }).feed.catchUp({ replay: false });
    await database.query("DELETE FROM lookaside_outbox WHERE ids = '{3}'");
    await ageResets();
    applied.length = 0;
    await feed.catchUp({ replay: false });
    assertEquals(applied, []);
    await feed.catchUp({ replay: true });
    assertEquals(applied, [{ table: "users", ids: ["2"] }]);
  });

  it("replays a reset too, within the window", async () => {
    await register("test");
    let resets = 0;
    const { feed } = makeFeed({
      reset: () => {
        resets++;
        return Promise.resolve();
      },
    });
    await feed.catchUp({ replay: false });
    assertEquals(resets, 0);
    await feed.catchUp({ replay: true });
    assertEquals(resets, 1);
    await ageResets();
    await feed.catchUp({ replay: true });
    assertEquals(resets, 1);
  });

  it("replays an id once, however often it changed", async () => {
    await register("test");
    const { feed, applied } = makeFeed();
    for (let i = 0; i < 150; i++) await update(1 + i % 2);
    await feed.catchUp({ replay: false });
    await ageResets();
    applied.length = 0;
    await feed.catchUp({ replay: true });
    assertEquals(applied.map(({ ids }) => ids?.toSorted()), [["1", "2"]]);
  });

  it("replays more than 10,000 ids by resetting the cache", async () => {
    await register("test");
    let resets = 0;
    const { feed, applied } = makeFeed({
      reset: () => {
        resets++;
        return Promise.resolve();
      },
    });
    await update(1);
    await feed.catchUp({ replay: false });
    await ageResets();
    await database.query(
      `UPDATE lookaside_outbox SET ids = ARRAY(SELECT i::TEXT FROM generate_series(1, 10001) AS i)`,
    );
    applied.length = 0;
    await feed.catchUp({ replay: true });
    assertEquals({ resets, applied }, { resets: 1, applied: [] });
  });

  describe("removes", () => {
    const old = (id: number): Promise<unknown> =>
      database.query(
        `UPDATE lookaside_outbox SET created_at = created_at - INTERVAL '2 minutes'
         WHERE ids = ARRAY[$1::TEXT]`,
        [String(id)],
      );
    const remaining = async (): Promise<string[]> =>
      (await allRows()).flatMap(({ ids }) => ids ?? []);

    it("rows that every cache has applied, once the window is over, with what was noted", async () => {
      await register("one", "test");
      await update(1, 2, 3);
      await old(1);
      await old(2);
      await register("one"); // applies
      await makeFeed().feed.catchUp({ replay: false });
      await database.query(
        `UPDATE lookaside_applied SET applied_at = applied_at - INTERVAL '2 minutes'
         WHERE outbox_id <> (SELECT id FROM lookaside_outbox WHERE ids = '{1}') OR cache = 'one'`,
      );
      makeFeed({ replayWindowMs: 60_000 }).feed.start();
      // 1 was applied to one of them a moment ago, and 3 is not old.
      await eventually(async () => assertEquals(await remaining(), ["1", "3"]));
      const noted = await database.query("SELECT 1 FROM lookaside_applied");
      assertEquals(noted.length, 4);
    });

    it("no row that is open for some cache", async () => {
      await register("away", "test");
      await update(1);
      await old(1);
      await makeFeed().feed.catchUp({ replay: false });
      await database.query(
        "UPDATE lookaside_applied SET applied_at = applied_at - INTERVAL '2 minutes'",
      );
      const { feed } = makeFeed({ replayWindowMs: 60_000 });
      feed.start();
      await feed.catchUp({ replay: false });
      await database.query("SELECT pg_sleep(0.2)"); // it has had time to remove
      assertEquals(await remaining(), ["1"]);
      await database.query("DELETE FROM lookaside_caches WHERE name = 'away'");
      makeFeed({ replayWindowMs: 60_000 }).feed.start();
      await eventually(async () => assertEquals(await remaining(), []));
    });

    it("what was written before anyone was registered", async () => {
      await update(1, 2);
      await old(1);
      makeFeed({ replayWindowMs: 60_000 }).feed.start();
      await eventually(async () => assertEquals(await remaining(), ["2"]));
    });

    it("what was noted of a row after it was removed", async () => {
      await register("test");
      await update(1);
      await database.query(
        `INSERT INTO lookaside_applied (cache, outbox_id)
         SELECT 'gone', id - 1 FROM lookaside_outbox`,
      );
      makeFeed().feed.start();
      await eventually(async () =>
        assertEquals(
          await database.query("SELECT cache FROM lookaside_applied"),
          [{ cache: "test" }],
        )
      );
    });
  });

  it("goes on in a database that was migrated under it", async () => {
    await using older = await createTestDatabase();
    await using olderDatabase = connect({ url: older.url });
    const [users, feed, ...later] = await readMigrations();
    assert(users !== undefined && feed !== undefined && later.length > 0);
    await migrate(olderDatabase, [users, feed]);
    // As the relay of then left it: registered, reset, and told of all but the last change.
    await olderDatabase.query("INSERT INTO users (name) VALUES ('x')");
    await olderDatabase.query(
      `INSERT INTO lookaside_caches (name, watermark, reset_at)
       VALUES ('test', pg_snapshot_xmin(pg_current_snapshot()), clock_timestamp())`,
    );
    await olderDatabase.query("UPDATE users SET name = 'y'");
    await migrate(olderDatabase);
    const { feed: newer, applied } = makeFeed({
      reset: () => Promise.reject(new Error("it is known what the cache missed")),
    }, olderDatabase);
    await newer.catchUp({ replay: false });
    assertEquals(idsOf(applied), ["1"]);
    await newer.close();
  });

  it("is woken by a commit long before its poll", {
    // The JSR driver has no LISTEN: there the poll is all there is.
    ignore: import.meta.resolve("@db/driver").includes("deno_postgres"),
  }, async () => {
    const { feed, applied } = makeFeed({ listen: true, pollMs: 60_000 });
    feed.start();
    // One wake-up may come before it listens. From the first that arrives on, they all do.
    await eventually(async () => {
      await database.query("UPDATE users SET name = 'y' WHERE id = 1");
      assert(applied.length > 0);
    }, { everyMs: 100 });
    const before = applied.length;
    await database.query("UPDATE users SET name = 'y' WHERE id = 2");
    await eventually(() => assert(applied.length > before), { deadlineMs: 5_000 });
  });
});
