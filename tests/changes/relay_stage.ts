/**
 * A database whose changes are recorded, and feeds that relay them.
 *
 * @module
 */
import { afterAll, afterEach, beforeAll, beforeEach } from "@std/testing/bdd";
import { connect } from "@db/driver";
import type { InvalidatedNames } from "../../cache/changes.ts";
import type { Change } from "../../changes/apply.ts";
import type { ChangesDatabase, SqlParameter } from "../../changes/database.ts";
import { ChangeFeed, type ChangeFeedOptions } from "../../changes/relay.ts";
import type { Database } from "../../db/database.ts";
import { bringUpToDate } from "../../db/bring_up_to_date.ts";
import { type ChangesFixture, createChangesDatabase } from "./changes_fixture.ts";

/** The parts of the statement that looks for rows to relay which no other has. */
export const LOOK: string = "'openMs'";
const LAST_LOOK = `CROSS JOIN LATERAL (
  SELECT * FROM lookaside.looks l WHERE l.cache = c.id ORDER BY l.look DESC LIMIT 1
) l`;

export let fixture: ChangesFixture;
export let database: Database;
const feeds: ChangeFeed[] = [];

/** A feed that notes what it applies, and how often it was to reset the cache. */
export function makeFeed(
  options: Partial<ChangeFeedOptions> = {},
  on: ChangesDatabase = fixture.service,
): {
  readonly feed: ChangeFeed;
  readonly applied: Change[];
  readonly names: InvalidatedNames[];
  readonly resets: () => number;
} {
  const applied: Change[] = [];
  const names: InvalidatedNames[] = [];
  let resets = 0;
  const feed = new ChangeFeed(on, {
    cacheName: "test",
    listen: false,
    pollMs: 10,
    reset: () => {
      resets++;
      return Promise.resolve();
    },
    apply: (changes, rest) => {
      applied.push(...changes);
      names.push(...rest);
      return Promise.resolve();
    },
    ...options,
  });
  feeds.push(feed);
  return { feed, applied, names, resets: () => resets };
}

/** Keys of the rows that `cache` has not applied, in order. */
export async function openKeys(cache = "test"): Promise<string[]> {
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
export async function age(interval: string): Promise<void> {
  await database.query("UPDATE lookaside.looks SET at = at - $1::INTERVAL", [interval]);
}

export async function cacheNames(): Promise<string[]> {
  const rows = await database.query<{ name: string }>(
    "SELECT name FROM lookaside.caches ORDER BY name",
  );
  return rows.map(({ name }) => name);
}

/** Makes every reset older than any replay window. */
export async function ageResets(): Promise<void> {
  await database.query("UPDATE lookaside.caches SET reset_at = reset_at - INTERVAL '1 hour'");
}

/** Registers a cache that nothing is to be missed by. */
export async function register(...names: string[]): Promise<void> {
  for (const cacheName of names) await makeFeed({ cacheName }).feed.catchUp({ replay: false });
}

/** The database, with `then` after each statement. */
export function afterEachStatement(
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

export async function update(...ids: number[]): Promise<void> {
  for (const id of ids) await database.query("UPDATE users SET name = 'y' WHERE id = $1", [id]);
}

export function keysOf(changes: readonly Change[]): string[] {
  return changes.flatMap(({ keys }) => keys ?? []).toSorted((a, b) => Number(a) - Number(b));
}

/** Changes user 1, and holds a relay of a cache while it applies that. Answers what releases it. */
export async function holdRelay(cacheName: string): Promise<() => void> {
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
export async function openWrite(id: number): Promise<{ commit(): Promise<void> }> {
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

/** Makes the database, and for each test ten users and no cache. Feeds end with their test. */
export function onRelayStage(): void {
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
}
