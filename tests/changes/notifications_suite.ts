/**
 * When writers wake a relay, which costs them: only where it has asked for it lately, and does not look anyway.
 */
import { assert, assertEquals } from "@std/assert";
import { afterAll, afterEach, beforeAll, beforeEach, it } from "@std/testing/bdd";
// @ts-types="../support/pg.d.ts"
import pg from "pg";
import type { ChangesDatabase, SqlParameter } from "../../changes/database.ts";
import { fromPg, fromPostgresJs, type PgPool } from "../../changes/mod.ts";
import { ChangeFeed } from "../../changes/relay.ts";
import { type Clock, systemClock } from "../../changes/runtime.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { startTcpProxy } from "../../tools/servers/tcp_proxy.ts";
import { FakeClock } from "../support/fake_runtime.ts";
import { type ChangesFixture, createChangesDatabase } from "./changes_fixture.ts";

/** So long that nothing is found by a poll. */
const POLL_MS = 2 ** 31 - 1;

/** The parameter of a noted look that is a promise, and how long it lasts. */
const PROMISE_AT = 7;
const PROMISE_MS = "200";

type Listen = NonNullable<ChangesDatabase["listen"]>;

/** Says of which statement the answer is lost, the first time. */
type Lost = (text: string, values: readonly SqlParameter[]) => boolean;

/** Before a poll, which is at the latest when it is time to ask again. */
const SOON = { deadlineMs: 5_000 };

let fixture: ChangesFixture;
const feeds: ChangeFeed[] = [];
/** What feeds have run. */
const statements: { readonly text: string; readonly values: readonly SqlParameter[] }[] = [];

/** Notifications of writers, on a server that runs once a test does. */
export function notificationsSuite(server: () => string): void {
  beforeAll(async () => {
    fixture = await createChangesDatabase(server());
    await fixture.owner`CREATE TABLE orders (id INT PRIMARY KEY, note TEXT)`;
    await fixture.owner`INSERT INTO orders SELECT i FROM generate_series(1, 9) i`;
    await fixture.owner`SELECT lookaside.watch('orders')`;
  });
  afterAll(async () => {
    await fixture[Symbol.asyncDispose]();
  });
  beforeEach(() => void statements.splice(0));
  afterEach(async () => {
    await Promise.all(feeds.splice(0).map((feed) => feed.close()));
    await fixture.owner`TRUNCATE lookaside.outbox, lookaside.looks, lookaside.caches`;
    await fixture.owner`ALTER TABLE lookaside.looks ALTER at SET DEFAULT clock_timestamp()`;
  });

  it("rings where a relay has asked for it, not before, nor while it looks anyway, nor for good", async () => {
    const heard: string[] = [];
    const { unlisten } = await fixture.admin.listen("lookaside_changes", (payload) => {
      heard.push(payload);
    });
    /** Answers whether a write rings when the doorbell was set so. */
    const rings = async (doorbell: string): Promise<boolean> => {
      await fixture.owner.unsafe(doorbell);
      heard.length = 0;
      await update(1);
      await fixture.admin.notify("lookaside_changes", "end");
      await eventually(() => assert(heard.includes("end")));
      return heard.includes("");
    };
    const set = (when: string) =>
      `SELECT setval('lookaside.doorbell', (date_part('epoch', ${when}) * 1000)::BIGINT)`;
    assertEquals(await rings("ALTER SEQUENCE lookaside.doorbell RESTART"), false);
    assertEquals(await rings(set("clock_timestamp() - INTERVAL '1 second'")), true);
    assertEquals(await rings(set("clock_timestamp() + INTERVAL '1 minute'")), false);
    assertEquals(await rings(set("clock_timestamp() - INTERVAL '1 minute'")), false);
    await unlisten();
  });

  it("is asked for by a relay that listens", async () => {
    const applied = await start();
    await update(1);
    await eventually(() => assertEquals(applied, ["1"]));
  });

  it("costs a relay little that finds no row, whoever rings, and however often", async () => {
    const clock = new FakeClock();
    const applied = await start({ clock });
    const looks = () => statements.filter(({ text }) => text.includes("'openMs'")).length;
    const before = looks();
    for (let i = 0; i < 100; i++) await fixture.admin.notify("lookaside_changes", "");
    assert(looks() - before < 10, `${looks() - before} looks`);
    await update(1);
    await eventually(async () => {
      await clock.advance(10);
      assertEquals(applied, ["1"]);
    });
  });

  it("is asked for again and again, however seldom that relay polls", async () => {
    const clock = new FakeClock();
    await start({ clock });
    const asked = () => statements.filter(({ text }) => text.includes("AS bell")).length;
    const before = asked();
    await eventually(async () => {
      await clock.advance(1_000);
      assert(asked() > before + 1);
    });
  });

  it("is not waited for where new connections hang", async () => {
    await using way = wayTo(fixture.urls.service);
    way.proxy.hang();
    const applied = await start({ listening: way.listen });
    await update(1);
    for (const feed of feeds) feed.wake();
    await eventually(() => assertEquals(applied, ["1"]));
    way.proxy.pass();
    await eventually(() => assertEquals(way.listens(), 1));
    await update(2);
    await eventually(() => assertEquals(applied, ["1", "2"]));
  });

  it("is listened for anew where the connection was forgotten on the way", async () => {
    const clock = new FakeClock();
    await using way = wayTo(fixture.urls.service);
    const applied = await start({ clock, listening: way.listen });
    const asked = () => statements.filter(({ text }) => text.includes("AS bell"));
    // It hears itself after every second question.
    for (let times = 1; times <= 6; times++) {
      const before = asked().length;
      await eventually(async () => {
        await clock.advance(1_000);
        assert(asked().length > before);
      });
      await eventually(() => assertEquals(way.heard(), Math.floor(asked().length / 2)));
    }
    assertEquals(way.listens(), 1);
    way.proxy.strand();
    await eventually(async () => {
      await clock.advance(1_000);
      assertEquals(way.listens(), 2);
    });
    await update(1);
    await eventually(async () => {
      await clock.advance(10);
      assertEquals(applied, ["1"]);
    });
  });

  it("is spared while many rows come at once, and asked for again behind them", async () => {
    const applied = await start({ promiseMs: "3600000" });
    await updateAtOnce();
    await eventually(() => assertEquals(applied, ["1", "2", "3"]));
    await eventually(() => assertEquals([promises(), takenBack()], [1, 1]));
    await update(4);
    await eventually(() => assertEquals(applied, ["1", "2", "3", "4"]));
    assertEquals(promises(), 1); // one row is no reason
  });

  it("is spared while rows follow one another", async () => {
    // As though each look were noted an instant before the next one.
    await fixture.owner`ALTER TABLE lookaside.looks
      ALTER at SET DEFAULT clock_timestamp() + INTERVAL '1 minute'`;
    const applied = await start();
    for (const id of [1, 2, 3, 4, 5]) {
      await update(id);
      await eventually(() => assert(applied.includes(`${id}`)));
    }
    await eventually(() => assert(promises() > 0));
    await eventually(() => assert(takenBack() > 0));
  });

  it("is asked for again behind a promise of which the relay has heard nothing", async () => {
    const lost: Lost = (text, values) => isPromise(text, values, PROMISE_AT);
    const applied = await start({ promiseMs: "3600000", lost });
    await updateAtOnce();
    await eventually(() => assertEquals(takenBack(), 1), SOON);
    await update(4);
    await eventually(() => assertEquals(applied, ["1", "2", "3", "4"]), SOON);
  });

  it("is asked for again where the relay failed before it had looked after its promise", async () => {
    await start({ lost: (text) => takenBack() > 0 && text.endsWith("::TEXT AS now") });
    await updateAtOnce();
    await eventually(() => assertEquals(takenBack(), 2), SOON);
  });

  it("is asked for again at once where that failed", async () => {
    await start({ lost: (text) => text.includes("AS bell") });
    const asked = () => statements.filter(({ text }) => text.includes("AS bell")).length;
    await eventually(() => assertEquals(asked(), 2), SOON);
  });

  it("is not spared by who catches up, and looks no more", async () => {
    const applied = await start();
    // Nobody is rung.
    await fixture.owner`SELECT setval('lookaside.doorbell', 9999999999999)`;
    await updateAtOnce();
    for (const feed of feeds) await feed.catchUp({ replay: false });
    assertEquals(applied, ["1", "2", "3"]);
    assertEquals(promises(), 0);
  });

  it("is not passed on to other caches where the server would refuse it, and the look with it", async () => {
    // As though somebody had filled the queue of the server.
    await fixture.admin.unsafe(
      `CREATE SCHEMA filled; GRANT USAGE ON SCHEMA filled TO PUBLIC;
      CREATE FUNCTION filled.pg_notification_queue_usage() RETURNS FLOAT8 LANGUAGE sql AS 'SELECT 0.9::FLOAT8';
      CREATE FUNCTION filled.pg_notify(TEXT, TEXT) RETURNS VOID LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'too many notifications in the NOTIFY queue'; END $$`,
    );
    await start({ path: "filled, pg_catalog" });
    await fixture
      .owner`INSERT INTO lookaside.caches (name, origin, keep) VALUES ('other', '', '1 h')`;
    const passedOn = () =>
      statements.filter(({ text, values }) =>
        text.includes("INSERT INTO lookaside.looks") && values[PROMISE_AT + 1] === "yes"
      ).length;
    await eventually(async () => {
      await updateAtOnce();
      assert(passedOn() > 0);
    });
    await fixture.admin.unsafe("DROP SCHEMA filled CASCADE");
  });

  it("is not asked for by a relay that cannot hear it", async () => {
    const applied = await start({ listen: false });
    await updateAtOnce();
    for (const feed of feeds) feed.wake();
    await eventually(() => assertEquals(applied, ["1", "2", "3"]));
    await Promise.all(feeds.map((feed) => feed.close()));
    assertEquals([promises(), takenBack()], [0, 0]);
  });
}

async function update(id: number): Promise<void> {
  await fixture.owner`UPDATE orders SET note = 'n' WHERE id = ${id}`;
}

/** Leaves three rows for one look. */
async function updateAtOnce(): Promise<void> {
  await fixture.owner.begin(async (transaction) => {
    for (const id of [1, 2, 3]) await transaction`UPDATE orders SET note = 'n' WHERE id = ${id}`;
  });
}

/** Starts a feed, and resolves once it rests. Answers the keys that it will have applied. */
async function start(
  { listen = true, listening, promiseMs = PROMISE_MS, clock = systemClock, lost, path }: {
    readonly listen?: boolean;
    readonly listening?: Listen;
    readonly promiseMs?: string;
    readonly clock?: Clock;
    readonly lost?: Lost;
    readonly path?: string;
  } = {},
): Promise<string[]> {
  const applied: string[] = [];
  const connection = path === undefined ? {} : { search_path: path };
  const service = fromPostgresJs(fixture.connect(fixture.urls.service, { connection }));
  const database = noting({ ...service, ...listening && { listen: listening } }, promiseMs, lost);
  const feed = new ChangeFeed(database, {
    cacheName: "test",
    listen,
    pollMs: POLL_MS,
    clock,
    reset: () => Promise.resolve(),
    apply: (changes) =>
      Promise.resolve(void applied.push(...changes.flatMap(({ keys = [] }) => keys))),
  });
  feeds.push(feed);
  await feed.catchUp({ replay: false });
  feed.start();
  await eventually(() => assert(statements.some(({ text }) => text.includes("lookaside.check()"))));
  return applied;
}

/** A way to the server that listeners alone take, and what comes of it. */
function wayTo(url: string) {
  const target = new URL(url);
  const proxy = startTcpProxy(Number(target.port));
  target.port = `${proxy.port}`;
  const pool = new pg.Pool({ connectionString: target.href });
  pool.on("error", () => undefined);
  let [listens, heard] = [0, 0];
  const listen: Listen = async (channel, onNotify, onLost) => {
    const hear = () => {
      heard++;
      onNotify();
    };
    const listening = await fromPg(pool as unknown as PgPool).listen?.(channel, hear, onLost);
    assert(listening !== undefined);
    listens++;
    return listening;
  };
  return {
    proxy,
    listen,
    listens: () => listens,
    heard: () => heard,
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      await pool.end();
    },
  };
}

/** Notes the statements, and has a promise last for so long. */
function noting(database: ChangesDatabase, promiseMs: string, lost?: Lost): ChangesDatabase {
  const { query } = database;
  let hasLost = false;
  return {
    ...database,
    query: async <Row>(text: string, values: readonly SqlParameter[] = []) => {
      const sent = values.map((value, at) => isPromise(text, values, at) ? promiseMs : value);
      const rows = await query<Row>(text, sent);
      statements.push({ text, values });
      if (!hasLost && lost?.(text, values)) {
        hasLost = true;
        throw new Error("The answer is lost");
      }
      return rows;
    },
  };
}

function isPromise(text: string, values: readonly SqlParameter[], at: number): boolean {
  return at === PROMISE_AT && text.includes("INSERT INTO lookaside.looks") &&
    values[at] === PROMISE_MS;
}

/** How many looks were noted with a promise to look again. */
function promises(): number {
  return statements.filter(({ text, values }) => isPromise(text, values, PROMISE_AT)).length;
}

/** How often a promise was taken back. */
function takenBack(): number {
  return statements.filter(({ text }) => text.includes("pg_current_xact_id()")).length;
}
