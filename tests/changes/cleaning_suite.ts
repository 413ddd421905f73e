import { assert, assertEquals } from "@std/assert";
import { beforeEach, describe, it } from "@std/testing/bdd";
import { eventually } from "../../tools/servers/eventually.ts";
import { age, database, fixture, keysOf, makeFeed, register, update } from "./relay_stage.ts";

/** Cleaning of the outbox: which rows and looks go, and when. */
export function cleaningSuite(): void {
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
}
