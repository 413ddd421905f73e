import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { connect } from "@db/driver";
import type { InvalidatedNames } from "../../cache/changes.ts";
// @ts-types="../support/pg.d.ts"
import pg from "pg";
import { settingsOf } from "../../cache/options.ts";
import { type Change, invalidatedBy } from "../../changes/apply.ts";
import type { ChangesDatabase, SqlParameter } from "../../changes/database.ts";
import { ChangeFeed, type ChangeFeedOptions } from "../../changes/relay.ts";
import type { Database } from "../../db/database.ts";
import { changesDatabase } from "../../changes/adapters/any_database.ts";
import { bringUpToDate } from "../../db/bring_up_to_date.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { type ChangesFixture, createChangesDatabase } from "./changes_fixture.ts";
import { rowsGoneThrough } from "./_rows_gone_through.ts";

/** The parts of the statement that looks for rows to relay which no other has. */
const LOOK = "'openMs'";
const LAST_LOOK = `CROSS JOIN LATERAL (
  SELECT * FROM lookaside.looks l WHERE l.cache = c.id ORDER BY l.look DESC LIMIT 1
) l`;

let fixture: ChangesFixture;
let database: Database;
const feeds: ChangeFeed[] = [];

/** A feed that notes what it applies. */
function makeFeed(options: Partial<ChangeFeedOptions> = {}, on = fixture.service): {
  readonly feed: ChangeFeed;
  readonly applied: Change[];
  readonly names: InvalidatedNames[];
} {
  const applied: Change[] = [];
  const names: InvalidatedNames[] = [];
  const feed = new ChangeFeed(on, {
    cacheName: "test",
    listen: false,
    pollMs: 10,
    reset: () => Promise.resolve(),
    apply: (changes, rest) => {
      applied.push(...changes);
      names.push(...rest);
      return Promise.resolve();
    },
    ...options,
  });
  feeds.push(feed);
  return { feed, applied, names };
}

/** Keys of the rows that `cache` has not applied, in order. */
async function openKeys(cache = "test"): Promise<string[]> {
  const rows = await database.query<{ key: string }>(
    `SELECT o.keys[1] AS key FROM lookaside.caches c ${LAST_LOOK} JOIN lookaside.outbox o
       ON NOT pg_visible_in_snapshot(o.xid, l.seen) AND (l.pass IS NULL
         OR NOT pg_visible_in_snapshot(o.xid, l.pass) OR (o.xid, o.id) > (l.pass_xid, l.pass_id))
     WHERE c.name = $1 ORDER BY o.created_at, o.id`,
    [cache],
  );
  return rows.map(({ key }) => key);
}

/** Makes the last look of each cache, and all that was before, as old as that. */
async function age(interval: string): Promise<void> {
  await database.query("UPDATE lookaside.looks SET at = at - $1::INTERVAL", [interval]);
}

async function cacheNames(): Promise<string[]> {
  const rows = await database.query<{ name: string }>(
    "SELECT name FROM lookaside.caches ORDER BY name",
  );
  return rows.map(({ name }) => name);
}

/** Makes every reset older than any replay window. */
async function ageResets(): Promise<void> {
  await database.query("UPDATE lookaside.caches SET reset_at = reset_at - INTERVAL '1 hour'");
}

/** Registers a cache that nothing is to be missed by. */
async function register(...names: string[]): Promise<void> {
  for (const cacheName of names) await makeFeed({ cacheName }).feed.catchUp({ replay: false });
}

/** The database, with `then` after each statement. */
function afterEachStatement(
  then: (text: string, values?: readonly SqlParameter[]) => Promise<void>,
): ChangesDatabase {
  return {
    query: async <Row>(text: string, values?: readonly SqlParameter[]): Promise<Row[]> => {
      const rows = await fixture.service.query<Row>(text, values);
      await then(text, values);
      return rows;
    },
    transaction: (run) => fixture.service.transaction(run),
  };
}

async function update(...ids: number[]): Promise<void> {
  for (const id of ids) await database.query("UPDATE users SET name = 'y' WHERE id = $1", [id]);
}

function keysOf(changes: readonly Change[]): string[] {
  return changes.flatMap(({ keys }) => keys ?? []).toSorted((a, b) => Number(a) - Number(b));
}

/** Changes user 1, and holds a relay of a cache while it applies that. Answers what releases it. */
async function holdRelay(cacheName: string): Promise<() => void> {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const { promise: held, resolve: hold } = Promise.withResolvers<void>();
  const apply = () => {
    hold();
    return released;
  };
  await update(1);
  makeFeed({ cacheName, apply }).feed.start();
  await held;
  return release;
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
    fixture = await createChangesDatabase();
    database = connect({ url: fixture.urls.owner, statementTimeoutMs: 30_000 });
    await bringUpToDate(database);
  });
  afterAll(async () => {
    await database.close();
    await fixture[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    await database.query("TRUNCATE users RESTART IDENTITY");
    await database.query("INSERT INTO users (name) SELECT 'x' FROM generate_series(1, 10)");
    await database.query(
      "TRUNCATE lookaside.outbox, lookaside.looks, lookaside.caches, lookaside.done",
    );
  });
  afterEach(async () => {
    await Promise.all(feeds.splice(0).map((feed) => feed.close()));
  });

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

  describe("registration", () => {
    it("resets a new cache once, after which it has nothing to apply", async () => {
      await update(1);
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
      assert(!keysOf(applied).includes("1"));
      await slow.commit();
      await feed.catchUp({ replay: false });
      assertEquals(keysOf(applied), ["1", "3"]);
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
      await database.query("DELETE FROM lookaside.caches");
      await eventually(() => assertEquals(resets, 2));
      await feed.catchUp({ replay: false });
      await update(1);
      await eventually(() => assertEquals(keysOf(applied), ["1"]));
      assertEquals(resets, 2);
    });

    for (
      const [which, spoil] of [
        ["of another server", "UPDATE lookaside.caches SET origin = '1.00000001'"],
        ["without a look", "TRUNCATE lookaside.looks"],
      ] as const
    ) {
      it(`${which} is made anew, with a reset`, async () => {
        await register("test");
        await database.query(spoil);
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
        await eventually(() => assertEquals(keysOf(applied), ["1"]));
      });
    }

    it("of another server, to which the same address leads all at once, is made anew, with a reset", async () => {
      let resets = 0;
      const errors: unknown[] = [];
      const { feed } = makeFeed({
        reset: () => {
          resets++;
          return Promise.resolve();
        },
        onError: (error) => void errors.push(error),
      });
      feed.start();
      await feed.catchUp({ replay: false });
      for (const times of [2, 3]) {
        await database.query("UPDATE lookaside.caches SET origin = '1.00000001.1'");
        if (times === 3) await feed.catchUp({ replay: false });
        await eventually(() => assertEquals(resets, times));
      }
      assertEquals(errors, []);
    });

    it("of a dump, which was restored on the same server, is made anew, with a reset", async () => {
      await register("test");
      await using restored = await createChangesDatabase();
      for (const table of ["caches", "looks"]) {
        const rows = await database.query(
          `SELECT json_agg(t)::TEXT AS dump FROM lookaside.${table} t`,
        );
        await restored.owner.unsafe(
          `INSERT INTO lookaside.${table} OVERRIDING SYSTEM VALUE
           SELECT * FROM json_populate_recordset(NULL::lookaside.${table}, $1::TEXT::JSON)`,
          [(rows[0] as { dump: string }).dump],
        );
      }
      let resets = 0;
      const { feed } = makeFeed({
        reset: () => {
          resets++;
          return Promise.resolve();
        },
      }, restored.service);
      feed.start();
      await eventually(() => assertEquals(resets, 1));
      await feed.close();
    });

    it("is made anew, with a reset, where a dump has brought along looks of a server that had counted further", async () => {
      let resets = 0;
      const { feed, applied } = makeFeed({
        reset: () => {
          resets++;
          return Promise.resolve();
        },
      });
      const restore = () =>
        database.query(
          `INSERT INTO lookaside.looks (cache, look, seen)
           SELECT id, 1000000, '4000000000:4000000000:' FROM lookaside.caches`,
        );
      await feed.catchUp({ replay: false });
      await restore();
      await feed.catchUp({ replay: false });
      assertEquals(resets, 2);
      await restore();
      feed.start();
      await eventually(() => assertEquals(resets, 3));
      await update(1);
      await eventually(() => assertEquals(keysOf(applied), ["1"]));
    });

    it("is made anew, with a reset, where the database is one of an earlier time", async () => {
      let resets = 0;
      const { feed } = makeFeed({
        reset: () => {
          resets++;
          return Promise.resolve();
        },
      }, {
        ...fixture.service,
        query: async <Row>(text: string, values?: readonly SqlParameter[]): Promise<Row[]> => {
          const rows = await fixture.service.query<Row>(text, values);
          // The earlier time has no look of the later one.
          if (values?.includes(later)) {
            await database.query("DELETE FROM lookaside.looks WHERE seen::TEXT = $1", [later]);
          }
          if (resets !== 1 || !text.includes(LOOK) || looks++ > 0) return rows;
          return rows.map((row) => ({ ...row, now: later }));
        },
      });
      const later = "4000000000:4000000000:";
      let looks = 0;
      await update(1);
      await feed.catchUp({ replay: false });
      assertEquals(resets, 1);
      await update(2);
      await feed.catchUp({ replay: false }); // sees a transaction that never was
      await update(3);
      await feed.catchUp({ replay: false });
      assertEquals(resets, 2);
    });

    it("expires once a cache has been away for an hour, but not one's own", async () => {
      await register("away", "here", "test");
      await age("61 minutes");
      await makeFeed({ cacheName: "here" }).feed.catchUp({ replay: false });
      await update(1);
      await makeFeed({ cacheName: "here" }).feed.catchUp({ replay: false });
      makeFeed().feed.start();
      await eventually(async () => assertEquals(await cacheNames(), ["here", "test"]));
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
    assertEquals(applied.map(({ keys }) => keys?.toSorted()), [["1", "2"]]);
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
      `UPDATE lookaside.outbox SET keys = ARRAY(SELECT i::TEXT FROM generate_series(1, 10001) AS i)`,
    );
    applied.length = 0;
    await feed.catchUp({ replay: true });
    assertEquals({ resets, applied }, { resets: 1, applied: [] });
  });

  describe("cleaning", () => {
    // A turn that ends between two statements of a test is another one for the second.
    beforeEach(() =>
      eventually(async () => {
        const [turn] = await database.query<{ left: number }>(
          "SELECT 450 - date_part('epoch', clock_timestamp())::BIGINT % 450 AS left",
        );
        assert(Number(turn?.left) > 5);
      })
    );
    /** Rows in the table of the outbox that is written to next, as a turn ago. */
    const writeOld = async (count: number): Promise<void> =>
      void await database.query(
        `INSERT INTO lookaside.outbox (label, keys, turn) SELECT 'users', ARRAY[i::TEXT], (
           date_part('epoch', clock_timestamp())::BIGINT / 450 + 1) % 3
         FROM generate_series(1, $1::INT) i`,
        [count],
      );
    const clean = async (): Promise<boolean | undefined> =>
      (await fixture.service.query<{ more: boolean }>("SELECT lookaside.clean() AS more"))[0]?.more;
    const left = async (): Promise<number> =>
      (await database.query("SELECT 1 FROM lookaside.outbox")).length;

    it("empties what every cache applied longer ago than the window, whoever has an old snapshot", async () => {
      await register("one", "test");
      await writeOld(3);
      await register("one", "test");
      await update(1);
      const old = fixture.connect(fixture.urls.owner, { max: 1 });
      await old.unsafe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM users");
      assertEquals([await clean(), await left()], [false, 4]);
      await age("2 minutes"); // not yet: five are kept
      assertEquals([await clean(), await left()], [false, 4]);
      await age("10 minutes");
      assertEquals([await clean(), await left()], [false, 1]);
      const [size] = await database.query<{ bytes: number }>(
        `SELECT min(pg_relation_size(inhrelid))::FLOAT8 AS bytes FROM pg_inherits
         WHERE inhparent = 'lookaside.outbox'::REGCLASS`,
      );
      assertEquals(size?.bytes, 0);
      await old.unsafe("COMMIT");
    });

    it("removes no row that is open for some cache", async () => {
      await register("away", "test");
      await writeOld(3);
      await register("test");
      await age("1 hour");
      assertEquals([await clean(), await left()], [false, 3]);
      await database.query("DELETE FROM lookaside.caches WHERE name = 'away'");
      assertEquals([await clean(), await left()], [false, 0]);
    });

    it("removes rows that came with the dump of a server that had counted further", async () => {
      const { feed, applied } = makeFeed();
      await feed.catchUp({ replay: false });
      await database.query(
        "INSERT INTO lookaside.outbox (xid, label, keys) VALUES ('99999999999', 'users', '{9}')",
      );
      await feed.catchUp({ replay: false });
      assertEquals([await clean(), await left()], [false, 0]);
      applied.length = 0;
      await update(1);
      await feed.catchUp({ replay: false });
      assertEquals(keysOf(applied), ["1"]); // without 9, which each look would find
    });

    it("takes rows in steps while a transaction holds a lock on them, and waits for nobody", async () => {
      await register("test");
      await writeOld(6_000);
      await register("test");
      await age("10 minutes");
      const writer = fixture.connect(fixture.urls.owner, { max: 1 });
      await writer.unsafe(
        `BEGIN; INSERT INTO lookaside.outbox (label, turn) SELECT 'users', turn FROM lookaside.outbox LIMIT 1`,
      );
      assertEquals([await clean(), await left()], [true, 1_000]);
      assertEquals([await clean(), await left()], [false, 0]);
      await writer.unsafe("COMMIT");
      assertEquals([await clean(), await left()], [false, 1]); // nobody has applied that
    });

    it("keeps a row that it does not see, where its transaction has an older snapshot", async () => {
      await register("test");
      await writeOld(3);
      await register("test");
      await age("10 minutes");
      const writer = fixture.connect(fixture.urls.owner, { max: 1 });
      await writer.unsafe(
        `BEGIN; INSERT INTO lookaside.outbox (label, turn) SELECT 'users', turn FROM lookaside.outbox LIMIT 1`,
      );
      const cleaner = fixture.connect(fixture.urls.service, { max: 1 });
      await cleaner.unsafe("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM lookaside.outbox");
      await writer.unsafe("COMMIT");
      await cleaner.unsafe("SELECT lookaside.clean(); COMMIT");
      assertEquals(await left(), 1);
    });

    it("removes the marks of ended writes as fast as they come", async () => {
      await register("test");
      await database.query(
        `INSERT INTO lookaside.done (cache, mark, at)
         SELECT id, i::TEXT, now() - INTERVAL '2 minutes' FROM lookaside.caches, generate_series(1, 6000) i`,
      );
      const marks = async (): Promise<number> =>
        (await database.query("SELECT 1 FROM lookaside.done")).length;
      assertEquals([await clean(), await marks()], [true, 1_000]);
      assertEquals([await clean(), await marks()], [false, 0]);
    });

    it("forgets looks that nothing is asked of any more", async () => {
      const looks = async (): Promise<number> =>
        (await database.query("SELECT 1 FROM lookaside.looks")).length;
      await register("test");
      for (const id of [1, 2, 3]) {
        await update(id);
        await register("test");
      }
      await clean();
      assertEquals(await looks(), 4);
      await age("1 hour");
      await database.query("UPDATE lookaside.looks SET at = now() WHERE look = 3");
      await clean();
      assertEquals(await looks(), 2);
    });

    it("is done by a feed, which waits for none of it", async () => {
      await register("test");
      await writeOld(3);
      await register("test");
      await age("10 minutes");
      const gate = Promise.withResolvers<void>();
      const { feed, applied } = makeFeed({}, {
        ...fixture.service,
        query: async (text, values) => {
          if (text.includes("lookaside.clean()")) await gate.promise;
          return await fixture.service.query(text, values);
        },
      });
      feed.start();
      await update(1);
      await eventually(() => assertEquals(keysOf(applied), ["1"]));
      gate.resolve();
      await eventually(async () => assertEquals(await left(), 1));
    });
  });

  describe("a write that its own process invalidates", () => {
    const written = async (mark: string, ...ids: number[]): Promise<void> => {
      await database.transaction(async (on) => {
        await on.query("SELECT set_config('lookaside.writer', $1, TRUE)", [mark]);
        for (const id of ids) await on.query("UPDATE users SET name = 'y' WHERE id = $1", [id]);
      });
    };

    /** Has writers keep their time to invalidate, however long it takes. */
    const foreverYoung = async (): Promise<AsyncDisposable> => {
      const at = (when: string) =>
        database.query(`ALTER TABLE lookaside.outbox ALTER created_at SET DEFAULT ${when}`);
      await at("clock_timestamp() + INTERVAL '1 hour'");
      return { [Symbol.asyncDispose]: async () => void await at("clock_timestamp()") };
    };

    /** Writes a row, and says that these names were invalidated then. */
    const ownWrite = async (feed: ChangeFeed, id: number): Promise<void> => {
      using own = await feed.beginWrite();
      await written(own.mark, id);
      own.invalidated(namesOf(id));
    };
    const namesOf = (id: number) => invalidatedBy({ table: "users", keys: [`${id}`], values: [] });

    it("is not applied again by its feed, nor by another one", async () => {
      await register("test");
      const [own, other] = [makeFeed(), makeFeed()];
      other.feed.start();
      await update(1);
      await eventually(() => assertEquals(keysOf(other.applied), ["1"]));
      own.feed.start();
      await eventually(async () => assertEquals(await openKeys(), []));
      await ownWrite(own.feed, 2);
      await eventually(async () => assertEquals(await openKeys(), []));
      await update(3);
      const applied = () => keysOf([...own.applied, ...other.applied]);
      await eventually(() => assert(applied().includes("3")));
      assert(!applied().includes("2"));
    });

    it("is not applied again among more rows than are applied at once", async () => {
      await register("test");
      const { feed, applied, names } = makeFeed();
      using own = await feed.beginWrite();
      await written(own.mark, ...Array.from({ length: 150 }, () => 4));
      own.invalidated(namesOf(4));
      own[Symbol.dispose]();
      await update(5);
      feed.start();
      await eventually(async () => assertEquals(await openKeys(), []));
      assertEquals([keysOf(applied), names], [["5"], []]);
    });

    it("has the names that were invalidated gone through once, however many rows it has", async () => {
      await register("test");
      const { feed, applied, names } = makeFeed();
      const own = await feed.beginWrite();
      await database.query(
        `INSERT INTO lookaside.outbox (label, keys, column_values, writer)
         SELECT 'users', array_agg(n::TEXT), '{}', $1 FROM generate_series(1, 1000) n GROUP BY n % 20`,
        [own.mark],
      );
      let reads = 0;
      const all = invalidatedBy({
        table: "users",
        keys: Array.from({ length: 1_000 }, (_, at) => `${at + 1}`),
        values: [],
      });
      const counted = (list: readonly string[]) =>
        new Proxy(list, { get: (of, name) => (reads++, Reflect.get(of, name)) });
      own.invalidated({ keys: counted(all.keys), tags: counted(all.tags) });
      own[Symbol.dispose]();
      feed.start();
      await eventually(async () => assertEquals(await openKeys(), []));
      assertEquals([applied, names], [[], []]);
      assert(reads < 20_000, `${reads} reads of 2,001 names`); // one by one, a million
    });

    it("is left alone by the relay of its own process until it is over", async () => {
      await using _ = await foreverYoung();
      await register("test");
      let looks = 0;
      const counting = afterEachStatement((text) => {
        if (text.includes(LOOK)) looks++;
        return Promise.resolve();
      });
      const { feed, applied } = makeFeed({}, counting);
      feed.start();
      await eventually(() => assert(looks > 0));
      const own = await feed.beginWrite();
      const noted = () =>
        database.query("SELECT max(look)::INTEGER FROM lookaside.looks WHERE applied");
      await written(own.mark, 1, 1);
      const before = await noted();
      const looksBefore = looks;
      await eventually(() => assert(looks > looksBefore + 3));
      assertEquals([await openKeys(), await noted()], [["1", "1"], before]);
      own.invalidated(namesOf(1));
      own[Symbol.dispose]();
      await eventually(async () => assertEquals(await openKeys(), []));
      assertEquals(applied, []);
    });

    for (
      const where of ["its own process", "another process", "another one than one that just began"]
    ) {
      it(`is applied at once by ${where} once it is over and was not invalidated, or not all of it`, async () => {
        await using _ = await foreverYoung();
        await register("test");
        const relay = makeFeed();
        relay.feed.start();
        await update(1); // from now on it is the usual relay
        await eventually(() => assertEquals(keysOf(relay.applied), ["1"]));
        // It relays nothing, so that the other one has to.
        const own = where === "its own process"
          ? relay
          : makeFeed({ apply: () => Promise.reject(new Error("Redis is away")) });
        if (where !== "another one than one that just began") own.feed.start();
        await eventually(async () => assertEquals(await openKeys(), []));
        const applied = () => keysOf(relay.applied);
        {
          using write = await own.feed.beginWrite();
          await written(write.mark, 3);
        }
        await eventually(() => assertEquals(applied(), ["1", "3"]));
        {
          using write = await own.feed.beginWrite();
          await written(write.mark, 4, 5); // as by a foreign key that cascades
          write.invalidated(namesOf(4));
        }
        // Whatever it has invalidated is not invalidated again.
        await eventually(() =>
          assertEquals(relay.names, [{ keys: ["users:5"], tags: ["users:5"] }])
        );
        assertEquals(applied(), ["1", "3"]);
        if (where === "its own process") return;
        {
          using write = await own.feed.beginWrite();
          await written(write.mark, 6);
          const keys = Array.from({ length: 5_000 }, (_, at) => `users:${at}`);
          write.invalidated({ ...namesOf(6), keys });
        }
        await eventually(() => assertEquals(applied(), ["1", "3", "6"])); // too many to be told of
      });
    }

    it("is applied after a second where that process does not, and at once by who catches up", async () => {
      await register("test");
      const { feed, applied } = makeFeed();
      feed.start();
      await database.query(
        "INSERT INTO lookaside.writers (cache, writer) SELECT id, 'dead' FROM lookaside.caches",
      );
      await eventually(async () => assertEquals(await openKeys(), []));
      const startedAtMs = performance.now();
      await written("dead.1", 1);
      await eventually(() => assertEquals(keysOf(applied), ["1"]));
      assert(performance.now() - startedAtMs > 900);
      await written("dead.2", 2);
      await feed.catchUp({ replay: false });
      assertEquals(keysOf(applied), ["1", "2"]);
    });

    it("is applied at once where nobody of this cache has such a mark", async () => {
      await using _ = await foreverYoung();
      await register("test");
      const { feed, applied } = makeFeed();
      feed.start();
      await written("stranger.1", 1);
      await eventually(() => assertEquals(keysOf(applied), ["1"]));
    });
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
