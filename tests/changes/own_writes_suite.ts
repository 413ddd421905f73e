import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { invalidatedBy } from "../../changes/apply.ts";
import type { ChangeFeed } from "../../changes/relay.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import {
  afterEachStatement,
  database,
  keysOf,
  LOOK,
  makeFeed,
  openKeys,
  register,
  update,
} from "./relay_stage.ts";

/** Writes that their own process invalidates, which a relay passes over. */
export function ownWritesSuite(): void {
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
}
