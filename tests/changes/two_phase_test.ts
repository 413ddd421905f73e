/**
 * Writers that prepare their transactions, on a server that lets them.
 */
import { assert, assertEquals, assertLess } from "@std/assert";
import { afterAll, afterEach, beforeAll, describe, it } from "@std/testing/bdd";
import type postgres from "postgres";
import { fromPostgresJs } from "../../changes/mod.ts";
import { ChangeFeed } from "../../changes/relay.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { startPostgres } from "../../tools/servers/postgres_server.ts";
import { type ChangesFixture, createChangesDatabase } from "./changes_fixture.ts";
import { rowsGoneThrough } from "./_rows_gone_through.ts";

/** Rows that are applied while a transaction stays prepared. */
const ROWS = 20_000;
/** A look takes a batch, and some rows of the tables around it, in each of a few steps. */
const ROWS_GONE_THROUGH_MAX = 50;

describe("two-phase commit", () => {
  const stack = new AsyncDisposableStack();
  let fixture: ChangesFixture;
  let sql: postgres.Sql;
  const feeds: ChangeFeed[] = [];

  beforeAll(async () => {
    const server = stack.use(await startPostgres({ settings: { max_prepared_transactions: "5" } }));
    fixture = stack.use(await createChangesDatabase(server.url));
    sql = fixture.owner;
    await sql`CREATE TABLE orders (id INT PRIMARY KEY, note TEXT)`;
    await sql`INSERT INTO orders SELECT i FROM generate_series(1, 9) i`;
    await sql`SELECT lookaside.watch('orders')`;
  });
  afterAll(async () => {
    await stack.disposeAsync();
  });
  afterEach(async () => {
    await Promise.all(feeds.splice(0).map((feed) => feed.close()));
  });

  /** Writes a row, and leaves the transaction prepared. */
  async function prepare(id: number, name: string): Promise<void> {
    const writer = await sql.reserve();
    try {
      await writer.unsafe("BEGIN");
      await writer.unsafe(`UPDATE orders SET note = 'prepared' WHERE id = ${id}`);
      await writer.unsafe(`PREPARE TRANSACTION '${name}'`);
    } finally {
      writer.release();
    }
  }

  function makeFeed(): { readonly feed: ChangeFeed; readonly applied: string[] } {
    const applied: string[] = [];
    const feed = new ChangeFeed(fromPostgresJs(fixture.connect(fixture.urls.service)), {
      cacheName: "test",
      reset: () => Promise.resolve(),
      apply: (changes) =>
        Promise.resolve(void applied.push(...changes.flatMap(({ keys = [] }) => keys))),
    });
    feeds.push(feed);
    return { feed, applied };
  }

  it("is possible for a writer beside a relay that listens, which applies the rest and then that", async () => {
    const { feed, applied } = makeFeed();
    await feed.catchUp({ replay: false });
    feed.start();
    await eventually(async () => {
      const [bell] = await sql<
        { asked: boolean }[]
      >`SELECT is_called AS asked FROM lookaside.doorbell`;
      assertEquals(bell?.asked, true);
    });
    await prepare(1, "one");
    await sql`UPDATE orders SET note = 'plain' WHERE id = 2`;
    await eventually(() => assertEquals(applied, ["2"]));
    await eventually(async () => assert((await feed.stats()).heldMs > 0));
    await sql`COMMIT PREPARED 'one'`;
    await eventually(() => assertEquals(applied, ["2", "1"]));
  });

  it("that is never completed makes no look slower, however much is applied meanwhile", async () => {
    const { feed, applied } = makeFeed();
    await feed.catchUp({ replay: false });
    await prepare(3, "orphan");
    await sql.unsafe(`INSERT INTO lookaside.outbox (label, keys)
      SELECT 'orders', ARRAY[(i % 9)::TEXT] FROM generate_series(1, ${ROWS}) i`);
    await feed.catchUp({ replay: false });
    await sql`UPDATE orders SET note = 'plain' WHERE id = 4`;
    const counts: number[] = [];
    const service = fromPostgresJs(fixture.connect(fixture.urls.service));
    const explaining = new ChangeFeed({
      ...service,
      query: async (text, values = []) => {
        if (text.includes("'openMs'")) {
          counts.push(await rowsGoneThrough((...how) => sql.unsafe(...how), text, values));
        }
        return await service.query(text, values);
      },
    }, { cacheName: "test", reset: () => Promise.resolve(), apply: () => Promise.resolve() });
    await explaining.catchUp({ replay: false });
    assert(counts.length > 0);
    for (const count of counts) assertLess(count, ROWS_GONE_THROUGH_MAX);
    applied.length = 0;
    await sql`COMMIT PREPARED 'orphan'`;
    await feed.catchUp({ replay: false });
    assertEquals(applied, ["3"]);
  });
});
