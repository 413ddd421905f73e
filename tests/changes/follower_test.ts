import { assertEquals } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { type Clock, systemRuntime } from "../../cache/mod.ts";
import type { ChangesDatabase } from "../../changes/database.ts";
import { Follower } from "../../changes/follower.ts";
import { ChangeFeed } from "../../changes/relay.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { FakeClock } from "../support/fake_runtime.ts";
import { type ChangesFixture, createChangesDatabase } from "./changes_fixture.ts";
import { later } from "../support/later.ts";

/** What a follower has told: names, `flushed`, `alive`. */
type Told = readonly string[];

describe("Follower", () => {
  let fixture: ChangesFixture;
  let feed: ChangeFeed;
  let stack: AsyncDisposableStack;

  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    fixture = stack.use(await createChangesDatabase());
    await fixture.owner.unsafe(
      "CREATE TABLE orders (id INT PRIMARY KEY); SELECT lookaside.watch('orders')",
    );
    feed = new ChangeFeed(fixture.service, {
      cacheName: "cache",
      apply: () => Promise.resolve(),
      reset: () => Promise.resolve(),
      namesOf: () => ({ keys: [], tags: [] }),
    });
    await feed.catchUp({ replay: false });
  });
  afterEach(() => stack.disposeAsync());

  function follow(
    sinceMs: number,
    { cacheName = "cache", clock = systemRuntime.clock, database = fixture.service }: {
      readonly cacheName?: string;
      readonly clock?: Clock;
      readonly database?: ChangesDatabase;
    } = {},
  ): { readonly told: Told } {
    const told: string[] = [];
    stack.use(
      new Follower(database, {
        changed: ({ keys }) => void told.push(...keys),
        flushed: () => void told.push("flushed"),
        alive: () => {
          if (told.at(-1) !== "alive") told.push("alive");
        },
      }, {
        cacheName,
        sinceMs,
        everyMs: 20,
        clock,
        isAway: () => true,
        onError: (error) => void told.push(String(error)),
      }),
    );
    return { told };
  }

  const insert = (id: number) => fixture.owner`INSERT INTO orders VALUES (${id})`;

  it("tells first what had not been applied then, and each change once", async () => {
    await insert(1);
    await feed.catchUp({ replay: false });
    await insert(2);
    // The time of the look is known to within the duration of a question: it tells rather too much.
    const told = await eventually(async () => {
      const { told } = follow(0);
      await eventually(() => assertEquals(told.at(-1), "alive"));
      assertEquals(told, ["orders:2", "alive"]);
      return told;
    });
    await insert(3);
    await eventually(() => assertEquals(told, ["orders:2", "alive", "orders:3", "alive"]));
  });

  it("tells what was applied since, as nobody may have announced it", async () => {
    await feed.catchUp({ replay: false });
    const heardAtMs = performance.now();
    await insert(1);
    await feed.catchUp({ replay: false });
    const { told } = follow(performance.now() - heardAtMs);
    await eventually(() => assertEquals(told, ["orders:1", "alive"]));
  });

  for (const question of ["first", "second"]) {
    it(`tells what was applied while its ${question} question was on its way`, async () => {
      await feed.catchUp({ replay: false });
      let left = question === "first" ? 1 : 2;
      const late: ChangesDatabase = {
        ...fixture.service,
        async query(sql, parameters) {
          if (--left === 0) {
            await insert(1);
            await feed.catchUp({ replay: false });
          }
          return await fixture.service.query(sql, parameters);
        },
      };
      const { told } = follow(0, { database: late });
      await eventually(() => assertEquals(told, ["orders:1", "alive"]));
    });
  }

  it("says that everything may have changed once what it has not seen may have been removed", async () => {
    const clock = new FakeClock();
    let down = false;
    const database: ChangesDatabase = {
      ...fixture.service,
      query: (sql, parameters) =>
        down ? Promise.reject("down") : fixture.service.query(sql, parameters),
    };
    const { told } = follow(0, { clock, database });
    await eventually(() => assertEquals(told.at(-1), "alive"));
    down = true;
    await eventually(async () => {
      await clock.advance(20);
      assertEquals(told.at(-1), "down");
    });
    await insert(1);
    await feed.catchUp({ replay: false });
    await fixture.owner`DELETE FROM lookaside.outbox`;
    await clock.advance(600_000);
    down = false;
    await eventually(async () => {
      await clock.advance(20);
      assertEquals(told.at(-1), "alive");
    });
    assertEquals(told.slice(told.lastIndexOf("down") + 1), ["flushed", "alive"]);
  });

  it("tells what a transaction wrote that ends later", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const { promise: written, resolve: wrote } = Promise.withResolvers<void>();
    const writing = later(fixture.owner.begin(async (sql) => {
      await sql`INSERT INTO orders VALUES (1)`;
      wrote();
      await promise;
    }));
    await written;
    await feed.catchUp({ replay: false });
    const { told } = follow(0);
    await eventually(() => assertEquals(told, ["alive"]));
    await insert(2);
    await eventually(() => assertEquals(told, ["alive", "orders:2", "alive"]));
    resolve();
    await writing;
    await eventually(() => assertEquals(told.slice(3), ["orders:1", "alive"]));
  });

  it("says that everything may have changed where it cannot know, and where it is too much", async () => {
    const { told } = follow(Infinity);
    await eventually(() => assertEquals(told, ["flushed", "alive"]));
    const before = performance.now();
    await fixture.owner.begin(async (sql) => {
      for (let id = 0; id < 1_000; id++) await sql`INSERT INTO orders VALUES (${id})`;
    });
    await eventually(() => assertEquals(told.slice(2), ["flushed", "alive"]));
    await fixture.owner`INSERT INTO lookaside.outbox (label, keys)
      SELECT 'orders', array_agg(n::TEXT) FROM generate_series(1, 20000) n`;
    await eventually(() => assertEquals(told.slice(4), ["flushed", "alive"]));
    const other = follow(performance.now() - before + 86_400_000);
    await eventually(() => assertEquals(other.told, ["flushed", "alive"]));
  });

  it("tells nothing of a cache for which nothing is kept", async () => {
    const { told } = follow(0, { cacheName: "another" });
    await insert(1);
    await feed.stats();
    assertEquals(told, []);
  });
});
