import { assert, assertEquals, assertLess } from "@std/assert";
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { setTimeout as delay } from "node:timers/promises";
import { connect } from "@db/driver";
import { ChangeFeed } from "../../changes/relay.ts";
import type { Database } from "../../db/database.ts";
import { bringUpToDate } from "../../db/bring_up_to_date.ts";
import { changesDatabase } from "../../db/changes_database.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { FakeClock, settle } from "../support/fake_runtime.ts";
import { QueryCounter } from "../support/query_counter.ts";
import { startTcpProxy, type TcpProxy } from "../../tools/servers/tcp_proxy.ts";
import { createTestDatabase, type TestDatabase } from "../support/test_database.ts";

/** Look and note. */
const RELAY_STATEMENTS = 2;
const POLL_MS = 60_000;
/** The longest that a feed leaves a row to the usual relay. */
const PATIENCE_MS_MAX = 100;
/** Those to clean, to check, and to look again. */
const TIMERS_AT_REST = 3;
/** Far more than lie between two statements of one task. */
const QUIET_TURNS_MIN = 30;

/** A feed of the cache "test" on a connection of its own. Time stands still for it. */
interface Instance {
  readonly feed: ChangeFeed;
  /** Ids that it has applied. */
  readonly applied: string[];
  readonly clock: FakeClock;
  readonly proxy: TcpProxy;
  readonly queries: QueryCounter;
  /** Runs when a batch has been applied, before it is noted. */
  afterApply: () => Promise<void> | void;
}

let testDatabase: TestDatabase;
let database: Database;
let stack: AsyncDisposableStack;

function makeInstance(): Instance {
  const url = new URL(testDatabase.url);
  const queries = new QueryCounter();
  const proxy = stack.use(startTcpProxy(Number(url.port), { observe: queries.observe }));
  url.port = String(proxy.port);
  const own = stack.use(connect({ url: url.href, poolMax: 1 }));
  const clock = new FakeClock();
  const applied: string[] = [];
  const feed = stack.use(
    new ChangeFeed(changesDatabase(own), {
      cacheName: "test",
      clock,
      // They are woken by hand, so that it is known when.
      listen: false,
      pollMs: POLL_MS,
      reset: () => Promise.resolve(),
      apply: async (changes) => {
        applied.push(...changes.flatMap(({ keys }) => keys ?? []));
        await instance.afterApply();
      },
    }),
  );
  const instance: Instance = { feed, applied, clock, proxy, queries, afterApply: () => {} };
  stack.defer(() => proxy.pass()); // or a test that has failed would wait for what hangs
  return instance;
}

/** Waits until a feed does nothing but wait. */
async function atRest(...instances: Instance[]): Promise<void> {
  await settle();
  for (const { clock } of instances) {
    await eventually(() => assertEquals(clock.timers, TIMERS_AT_REST), { everyMs: 2 });
  }
}

/** Waits until what a feed does beside relaying is done, too: no statement runs for many turns of this process. */
async function chored({ queries }: Instance): Promise<void> {
  for (let quietTurns = 0; quietTurns < QUIET_TURNS_MIN; quietTurns++) {
    queries.resetMax();
    await delay(1);
    if (queries.runningMax > 0) quietTurns = 0;
  }
}

/** For how long a feed that is at rest will be. */
function restMs({ clock }: Instance): number {
  return (clock.nextMs ?? NaN) - clock.monotonicNow();
}

/** Lets time go on for a feed, until it no longer waits for the usual relay. */
async function goOn(instance: Instance): Promise<void> {
  await atRest(instance);
  while (restMs(instance) <= PATIENCE_MS_MAX) {
    await instance.clock.advance(PATIENCE_MS_MAX);
    await atRest(instance);
  }
}

async function update(id: number): Promise<void> {
  await database.query("UPDATE users SET name = 'y' WHERE id = $1", [id]);
}

/** Writes, and wakes feeds as the commit would. */
async function write(id: number, ...woken: Instance[]): Promise<void> {
  await update(id);
  for (const { feed } of woken) feed.wake();
}

async function openCount(): Promise<number> {
  const open = await database.query(
    `SELECT 1 FROM lookaside.outbox WHERE NOT pg_visible_in_snapshot(xid, (
       SELECT seen FROM lookaside.looks ORDER BY cache DESC, look DESC LIMIT 1
     ))`,
  );
  return open.length;
}

/** Feeds that know which of them is the usual relay: the first. */
async function startInstances(count: number): Promise<[Instance, ...Instance[]]> {
  const instances = Array.from({ length: count }, makeInstance);
  for (const instance of instances) {
    instance.feed.start();
    await atRest(instance);
  }
  await write(1, ...instances.slice(0, 1));
  for (const instance of instances) {
    await goOn(instance);
    instance.feed.wake();
    await goOn(instance);
  }
  const [usual, ...more] = instances.filter(({ applied }) => applied.length > 0);
  assert(usual !== undefined && more.length === 0, "one of them has relayed");
  // The others looked before it noted that it had.
  for (const instance of instances) {
    await instance.clock.advance(POLL_MS);
    await atRest(instance);
    await chored(instance);
    instance.applied.length = 0;
  }
  return [usual, ...instances.filter((instance) => instance !== usual)];
}

/** Counts the statements of an instance from now on. */
function counting({ queries }: Instance): () => number {
  const before = queries.queries;
  return () => queries.queries - before;
}

/** Lets time go on until somebody has applied an id. By default, before the cache counts as unseen. */
async function takenOver(by: Instance, id: string, deadlineMs = 5_000): Promise<void> {
  await eventually(async () => {
    await by.clock.advance(PATIENCE_MS_MAX);
    await atRest(by);
    assert(by.applied.includes(id));
  }, { deadlineMs });
}

describe("the feeds of one cache", () => {
  beforeAll(async () => {
    testDatabase = await createTestDatabase();
    database = connect({ url: testDatabase.url });
    await bringUpToDate(database);
  });
  afterAll(async () => {
    await database.close();
    await testDatabase[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    await database.query("TRUNCATE users RESTART IDENTITY");
    await database.query("INSERT INTO users (name) SELECT 'x' FROM generate_series(1, 30)");
    await database.query("TRUNCATE lookaside.outbox, lookaside.looks, lookaside.caches");
  });
  afterEach(() => stack.disposeAsync());

  it("cost two statements a write where there is one", async () => {
    const [usual] = await startInstances(1);
    const statements = counting(usual);
    for (let id = 2; id <= 11; id++) {
      await write(id, usual);
      await atRest(usual);
    }
    assertEquals(usual.applied.length, 10);
    assertEquals(await openCount(), 0);
    assertEquals(statements(), 10 * RELAY_STATEMENTS);
  });

  it("leave wake-ups to the one that relayed last, and look once for many of them", async () => {
    const [usual, ...others] = await startInstances(3);
    const [byUsual, ...byOthers] = [usual, ...others].map(counting);
    for (let id = 2; id <= 21; id++) {
      await write(id, usual, ...others);
      await atRest(usual, ...others);
    }
    assertEquals(await openCount(), 0);
    assertEquals(byUsual?.(), 20 * RELAY_STATEMENTS);
    assertEquals(byOthers.map((count) => count()), [0, 0]);
    for (const other of others) {
      assert(restMs(other) >= 50 && restMs(other) < PATIENCE_MS_MAX, `${restMs(other)} ms`);
      await other.clock.advance(PATIENCE_MS_MAX);
      await atRest(other);
      assertLess(PATIENCE_MS_MAX, restMs(other));
    }
    assertEquals(byOthers.map((count) => count()), [1, 1]);
    assertEquals(others.map(({ applied }) => applied), [[], []]);
  });

  it("look at an idle outbox with one statement", async () => {
    const instances = await startInstances(2);
    const counts = instances.map(counting);
    for (const instance of instances) {
      await instance.clock.advance(POLL_MS);
      await atRest(instance);
      await chored(instance);
    }
    // Each asks for the installed version. The usual one cleans, and checks with two, too.
    assertEquals(counts.map((count) => count()), [6, 2]);
  });

  it("relay at the poll what none of them was woken for", async () => {
    const [usual] = await startInstances(2);
    await write(2);
    await usual.clock.advance(POLL_MS);
    await atRest(usual);
    assertEquals(usual.applied, ["2"]);
  });

  it("take over from one that is cut off, and leave wake-ups to the new one", async () => {
    const [usual, other] = await startInstances(2);
    assert(other !== undefined);
    usual.proxy.hang();
    await write(2, usual, other);
    await takenOver(other, "2");
    assertEquals(await openCount(), 0);

    usual.proxy.pass();
    await goOn(usual);
    const byOther = counting(other);
    await write(3, usual, other);
    await atRest(usual, other);
    assertEquals([usual.applied, other.applied], [[], ["2", "3"]]);
    assertEquals(byOther(), RELAY_STATEMENTS);
  });

  it("take over from one that cannot apply, which then leaves wake-ups to the new one", async () => {
    const [usual, other] = await startInstances(2);
    assert(other !== undefined);
    usual.afterApply = () => Promise.reject(new Error("Redis is away"));
    await write(2, usual, other);
    await takenOver(other, "2");
    await write(3, usual); // it tries once more, and learns who is the usual relay
    await atRest(usual);
    for (const id of [3, 4]) {
      await write(id, other);
      await atRest(other);
    }
    assertEquals(await openCount(), 0);
    const byUsual = counting(usual);
    usual.feed.wake();
    await atRest(usual);
    assertEquals(byUsual(), 2); // it makes sure that the server is the same
  });

  it("lose nothing when one dies before it notes what it has applied", async () => {
    const [usual, other] = await startInstances(2);
    assert(other !== undefined);
    usual.afterApply = () => usual.proxy.cut();
    await write(2, usual, other);
    await takenOver(other, "2");
    assertEquals([usual.applied, other.applied], [["2"], ["2"]]);
    assertEquals(await openCount(), 0);
  });

  it("take over from one that is stopped half-way, which then notes nothing", async () => {
    const [usual, other] = await startInstances(2);
    assert(other !== undefined);
    const stopped = Promise.withResolvers<void>();
    usual.afterApply = () => stopped.promise;
    try {
      await write(2, usual, other);
      await takenOver(other, "2");
      await update(3);
    } finally {
      stopped.resolve();
    }
    await settle();
    assertEquals(await openCount(), 1);
  });

  it("look again soon, with one statement, where another was first", async () => {
    const [usual, other] = await startInstances(2);
    assert(other !== undefined);
    usual.afterApply = async () => {
      usual.afterApply = () => {};
      await other.feed.catchUp({ replay: false });
    };
    await other.clock.advance(POLL_MS);
    // Otherwise its poll could run after the next statement, and note that the cache still exists.
    await atRest(other);
    const statements = counting(usual);
    // The other one catches up without leaving it to the usual one, which has not been seen for long.
    await database.query("UPDATE lookaside.looks SET at = at - INTERVAL '1 minute'");
    await write(2, usual);
    await atRest(usual);
    assertEquals([usual.applied, other.applied], [["2"], ["2"]]);
    assertEquals(statements(), RELAY_STATEMENTS);
    assertEquals(restMs(usual), 20);
    await usual.clock.advance(20);
    await atRest(usual);
    assertEquals(statements(), RELAY_STATEMENTS + 1);
    assertEquals(await openCount(), 0);
  });
});
