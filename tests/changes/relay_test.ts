import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
// @ts-types="../support/pg.d.ts"
import pg from "pg";
import { settingsOf } from "../../cache/options.ts";
import type { ChangeFeedOptions } from "../../changes/relay.ts";
import { changesDatabase } from "../../changes/adapters/any_database.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { rowsGoneThrough } from "./_rows_gone_through.ts";
import { registrationSuite } from "./registration_suite.ts";
import { cleaningSuite } from "./cleaning_suite.ts";
import { ownWritesSuite } from "./own_writes_suite.ts";
import {
  afterEachStatement,
  age,
  ageResets,
  database,
  fixture,
  holdRelay,
  keysOf,
  LOOK,
  makeFeed,
  onRelayStage,
  openKeys,
  openWrite,
  register,
  update,
} from "./relay_stage.ts";

describe("the change feed", () => {
  onRelayStage();

  it("applies each row, however many relays a cache has", async () => {
    await register("test");
    const relays = [makeFeed(), makeFeed(), makeFeed()];
    await update(1);
    await relays[0]?.feed.catchUp({ replay: false }); // from then on it is the usual one
    for (const { applied } of relays) applied.length = 0;
    for (const { feed } of relays) feed.start();
    await update(1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
    await eventually(async () => assertEquals(await openKeys(), []));
    const keys = new Set(keysOf(relays.flatMap(({ applied }) => applied)));
    assertEquals([...keys], [..."123456789", "10"]);
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
      await eventually(() => assertEquals(keysOf(applied), ["1", "2"]));
      // It is noted behind that.
      await eventually(async () => assertEquals((await feed.stats()).backlog, 0));
    }
  });

  it("does not wait for the relay of another cache", async () => {
    await register("slow", "test");
    const release = await holdRelay("slow");
    const { feed, applied } = makeFeed();
    await feed.catchUp({ replay: false });
    assertEquals(keysOf(applied), ["1"]);
    release();
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
    await eventually(async () => assertEquals(await openKeys(), []));
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
    await eventually(() => assertEquals(keysOf(applied), ["1", "3"]));
    await update(4);
    await eventually(() => assertEquals(keysOf(applied), ["1", "3", "4"]));
    await slow.commit();
    await eventually(() => assertEquals(keysOf(applied), ["1", "2", "3", "4"]));
    await feed.catchUp({ replay: false });
    assertEquals(keysOf(applied), ["1", "2", "3", "4"]); // each once
  });

  it("loses no row that is committed right after it has looked at the rows", async () => {
    await register("test");
    await update(1);
    let looks = 0;
    const { feed, applied } = makeFeed(
      {},
      afterEachStatement(async (text) => {
        if (text.includes(LOOK) && looks++ === 0) await update(2);
      }),
    );
    await feed.catchUp({ replay: false });
    await feed.catchUp({ replay: false });
    assertEquals(keysOf(applied), ["1", "2"]);
    assert(looks > 1);
  });

  it("has done with a backlog once it is applied, also one of whole batches", async () => {
    const { feed } = makeFeed();
    await feed.catchUp({ replay: false });
    await database.query(
      `INSERT INTO lookaside.outbox (label, keys)
       SELECT 'users', ARRAY[i::TEXT] FROM generate_series(1, 200) AS i`,
    );
    await feed.catchUp({ replay: false });
    assertEquals(await openKeys(), []);
  });

  it("takes few rows at once where each has many names, and all of them in the end", async () => {
    const { feed, applied } = makeFeed();
    await feed.catchUp({ replay: false });
    await database.query(
      `INSERT INTO lookaside.outbox (label, keys, column_values)
       SELECT 'users', array_agg(n::TEXT), array_agg('a=' || n) FROM generate_series(1, 30000) AS n GROUP BY n % 30`,
    );
    await feed.catchUp({ replay: false });
    const names = applied.map(({ keys = [], values }) => keys.length + values.length);
    assertEquals(Math.max(...names), 20_000);
    assertEquals(new Set(keysOf(applied)).size, 30_000);
    assertEquals(await openKeys(), []);
  });

  it("goes through no more rows for the many that are kept, nor while an old transaction is open", async () => {
    await register("test");
    const old = fixture.connect(fixture.urls.owner, { max: 1 });
    await old.unsafe("BEGIN; SELECT pg_current_xact_id()");
    await database.query(
      `INSERT INTO lookaside.outbox (label, keys)
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
          if (!text.includes(LOOK)) return;
          counts.push(await rowsGoneThrough((...how) => database.query(...how), text, values));
        }),
      );
      await feed.catchUp({ replay: false });
      assert(counts.length > 0 && counts.every((count) => count < 50), counts.join());
    }
    await old.unsafe("COMMIT");
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
    assert(applied.every(({ keys }) => keys?.length === 2));
    assertEquals((await feed.stats()).applied, 250);
  });

  it("counts how long a transaction has been open, and what the outbox takes", async () => {
    const slow = await openWrite(1);
    const { feed } = makeFeed();
    feed.start();
    await eventually(async () => assert((await feed.stats()).heldMs > 50));
    assert((await feed.stats()).bytes > 0);
    await slow.commit();
    await eventually(async () => assertEquals((await feed.stats()).heldMs, 0));
  });

  it("tells of whatever is past its limit", async () => {
    const problemsWith = async (limits: ChangeFeedOptions["limits"]): Promise<number> => {
      const problems: unknown[] = [];
      const checked = Promise.withResolvers<void>();
      const { feed } = makeFeed(
        {
          ...(limits === undefined ? {} : { limits }),
          onProblem: (problem) => void problems.push(problem),
        },
        afterEachStatement((text) => {
          if (text.includes("AS bytes")) checked.resolve();
          return Promise.resolve();
        }),
      );
      feed.start();
      await checked.promise;
      await feed.close();
      return problems.length;
    };
    assertEquals(await problemsWith({ lagMs: -1, bytes: -1, heldMs: -1 }), 3);
    assertEquals(await problemsWith(undefined), 0);
  });

  it("tells each program of a schema that is older than its own", async () => {
    const told = async (): Promise<string> => {
      const first = Promise.withResolvers<string>();
      const { feed } = makeFeed({ onProblem: ({ problem }) => first.resolve(problem) });
      feed.start();
      return await first.promise.finally(() => feed.close());
    };
    await fixture.owner`UPDATE lookaside.installed SET version = version - 1`;
    await using other = makeFeed().feed; // which has the turn
    other.start();
    await eventually(async () => assertEquals((await other.stats()).backlog, 0));
    assertMatch(await told(), /^The schema lookaside has version \d+, and lacks/);
    await fixture.owner`UPDATE lookaside.installed SET version = version + 1`;
  });

  registrationSuite();

  it("relays as well where transactions are of a level that does not let others write what it does", async () => {
    const errors: unknown[] = [];
    const strict = fixture.connect(fixture.urls.service, {
      connection: { default_transaction_isolation: "serializable" },
    });
    const { feed, applied } = makeFeed(
      { onError: (error) => errors.push(error) },
      changesDatabase(strict),
    );
    const other = fixture.connect(fixture.urls.owner, { max: 1 });
    await other.unsafe(
      "BEGIN; INSERT INTO lookaside.caches (name, origin, keep) VALUES ('test', 'other', '1 hour')",
    );
    const commit = async () => {
      await eventually(async () => {
        const waiting = await database.query("SELECT 1 FROM pg_locks WHERE NOT granted");
        assertEquals(waiting.length, 1);
      });
      await other.unsafe("COMMIT");
    };
    await Promise.all([feed.catchUp({ replay: false }), commit()]);
    feed.start();
    await update(1);
    await eventually(() => assertEquals(keysOf(applied), ["1"]));
    assertEquals(errors, []);
  });

  it("catches up, also where another one of its cache has stopped half-way", async () => {
    await register("test");
    const release = await holdRelay("test");
    const { feed, applied } = makeFeed();
    await feed.catchUp({ replay: false });
    assertEquals([keysOf(applied), await openKeys()], [["1"], []]);
    release();
  });

  it("applies again what two looked for at once, and passes over nothing that came behind", async () => {
    await register("test");
    const [first, second] = [makeFeed(), makeFeed()];
    await update(1);
    let stalled = false;
    const slow = makeFeed({
      apply: async () => {
        if (stalled) return;
        stalled = true;
        await first.feed.catchUp({ replay: false });
        await update(2);
      },
    });
    await slow.feed.catchUp({ replay: false }); // applies 1 and cannot note it any more
    assertEquals(keysOf(first.applied), ["1"]);
    await second.feed.catchUp({ replay: false });
    assertEquals(await openKeys(), []);
    assertEquals(keysOf(second.applied), ["2"]);
  });

  it("replays what its cache applied within the window, and nothing older", async () => {
    await register("other");
    const { feed, applied } = makeFeed({ replayWindowMs: 60_000 });
    await feed.catchUp({ replay: false });
    await update(1);
    await feed.catchUp({ replay: false });
    await age("2 minutes");
    await update(2);
    await feed.catchUp({ replay: false });
    await makeFeed({ cacheName: "other" }).feed.catchUp({ replay: false });
    await ageResets();
    applied.length = 0;
    await feed.catchUp({ replay: false });
    assertEquals(applied, []);
    await feed.catchUp({ replay: true });
    assertEquals(applied, [{ table: "users", keys: ["2"], values: [] }]);
  });

  it("keeps what it replays for as long as an entry lives, by default", async () => {
    const { ttlMs, jitterRatio, graceMs } = settingsOf({});
    await register("test");
    const [cache] = await database.query<{ kept: number }>(
      "SELECT date_part('epoch', keep) * 1000 AS kept FROM lookaside.caches",
    );
    assert((cache?.kept ?? 0) >= ttlMs * (1 + jitterRatio) + graceMs);
  });

  it("keeps it for as long as an entry of any process lives, whichever came last", async () => {
    for (const replayWindowMs of [60_000, 3_600_000, 60_000]) {
      await makeFeed({ replayWindowMs }).feed.catchUp({ replay: false });
    }
    const rows = await database.query(
      "SELECT date_part('epoch', keep) * 1000 AS kept FROM lookaside.caches",
    );
    assertEquals(rows, [{ kept: 3_600_000 }]);
  });

  it("replays a reset too, within the window", async () => {
    await register("test");
    const { feed, resets } = makeFeed();
    await feed.catchUp({ replay: false });
    assertEquals(resets(), 0);
    await feed.catchUp({ replay: true });
    assertEquals(resets(), 1);
    await ageResets();
    await feed.catchUp({ replay: true });
    assertEquals(resets(), 1);
  });

  it("replays an id once, however often it changed", async () => {
    await register("test");
    const { feed, applied } = makeFeed();
    for (let i = 0; i < 150; i++) await update(1 + i % 2);
    await feed.catchUp({ replay: false });
    await ageResets();
    applied.length = 0;
    await feed.catchUp({ replay: true });
    assertEquals(applied.map(({ keys }) => keys?.toSorted()), [["1", "2"]]);
  });

  it("replays more than 10,000 ids by resetting the cache", async () => {
    await register("test");
    const { feed, applied, resets } = makeFeed();
    await update(1);
    await feed.catchUp({ replay: false });
    await ageResets();
    await database.query(
      `UPDATE lookaside.outbox SET keys = ARRAY(SELECT i::TEXT FROM generate_series(1, 10001) AS i)`,
    );
    applied.length = 0;
    await feed.catchUp({ replay: true });
    assertEquals([resets(), applied], [1, []]);
  });

  cleaningSuite();

  ownWritesSuite();

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

  it("listens again soon after its connection for notifications has ended", async () => {
    const pool = new pg.Pool({ connectionString: fixture.urls.service });
    pool.on("error", () => undefined);
    const { feed } = makeFeed({ listen: true }, changesDatabase(pool));
    const ended: number[] = [];
    try {
      feed.start();
      while (ended.length < 2) {
        await eventually(async () => {
          const listening = await fixture.admin<{ pid: number }[]>`
            SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`;
          const pid = listening.map((each) => each.pid).find((each) => !ended.includes(each));
          assert(pid !== undefined, "nobody listens");
          await fixture.admin`SELECT pg_terminate_backend(${pid})`;
          ended.push(pid);
        }, { deadlineMs: 5_000 });
      }
    } finally {
      await feed.close();
      await pool.end();
    }
  });
});
