import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { SqlParameter } from "../../changes/database.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { createChangesDatabase } from "./changes_fixture.ts";
import {
  age,
  cacheNames,
  database,
  fixture,
  keysOf,
  LOOK,
  makeFeed,
  openWrite,
  register,
  update,
} from "./relay_stage.ts";

/** Registration of a cache at the outbox: what it resets, and what may befall it. */
export function registrationSuite(): void {
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
      const { feed, resets } = makeFeed();
      await feed.catchUp({ replay: false });
      assertEquals(resets(), 1);
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
      const { feed, applied, resets } = makeFeed();
      feed.start();
      await eventually(() => assertEquals(resets(), 1));
      await database.query("DELETE FROM lookaside.caches");
      await eventually(() => assertEquals(resets(), 2));
      await feed.catchUp({ replay: false });
      await update(1);
      await eventually(() => assertEquals(keysOf(applied), ["1"]));
      assertEquals(resets(), 2);
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
        const { feed, applied, resets } = makeFeed();
        feed.start();
        await eventually(() => assertEquals(resets(), 1));
        await update(1);
        await eventually(() => assertEquals(keysOf(applied), ["1"]));
      });
    }

    it("of another server, to which the same address leads all at once, is made anew, with a reset", async () => {
      const errors: unknown[] = [];
      const { feed, resets } = makeFeed({
        onError: (error) => void errors.push(error),
      });
      feed.start();
      await feed.catchUp({ replay: false });
      for (const times of [2, 3]) {
        await database.query("UPDATE lookaside.caches SET origin = '1.00000001.1'");
        if (times === 3) await feed.catchUp({ replay: false });
        await eventually(() => assertEquals(resets(), times));
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
      const { feed, resets } = makeFeed({}, restored.service);
      feed.start();
      await eventually(() => assertEquals(resets(), 1));
      await feed.close();
    });

    it("is made anew, with a reset, where a dump has brought along looks of a server that had counted further", async () => {
      const { feed, applied, resets } = makeFeed();
      const restore = () =>
        database.query(
          `INSERT INTO lookaside.looks (cache, look, seen)
           SELECT id, 1000000, '4000000000:4000000000:' FROM lookaside.caches`,
        );
      await feed.catchUp({ replay: false });
      await restore();
      await feed.catchUp({ replay: false });
      assertEquals(resets(), 2);
      await restore();
      feed.start();
      await eventually(() => assertEquals(resets(), 3));
      await update(1);
      await eventually(() => assertEquals(keysOf(applied), ["1"]));
    });

    it("is made anew, with a reset, where the database is one of an earlier time", async () => {
      const { feed, resets } = makeFeed({}, {
        ...fixture.service,
        query: async <Row>(text: string, values?: readonly SqlParameter[]): Promise<Row[]> => {
          const rows = await fixture.service.query<Row>(text, values);
          // The earlier time has no look of the later one.
          if (values?.includes(later)) {
            await database.query("DELETE FROM lookaside.looks WHERE seen::TEXT = $1", [later]);
          }
          if (resets() !== 1 || !text.includes(LOOK) || looks++ > 0) return rows;
          return rows.map((row) => ({ ...row, now: later }));
        },
      });
      const later = "4000000000:4000000000:";
      let looks = 0;
      await update(1);
      await feed.catchUp({ replay: false });
      assertEquals(resets(), 1);
      await update(2);
      await feed.catchUp({ replay: false }); // sees a transaction that never was
      await update(3);
      await feed.catchUp({ replay: false });
      assertEquals(resets(), 2);
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
}
