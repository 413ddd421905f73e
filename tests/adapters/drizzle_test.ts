/**
 * Drizzle over the cache, on real servers; and beside it Drizzle over a plain Redis, which loses the races.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { eq, exists, sql } from "drizzle-orm";
import { drizzle as drizzlePostgresJs } from "drizzle-orm/postgres-js";
import { drizzle } from "drizzle-orm/node-postgres";
import {
  bigint,
  customType,
  doublePrecision,
  integer,
  jsonb,
  numeric,
  pgTable,
  text,
  timestamp,
} from "drizzle-orm/pg-core";
import { Redis } from "ioredis";
import { Buffer } from "node:buffer";
// @ts-types="../support/pg.d.ts"
import pg from "pg";
import postgres from "postgres";
import { withCache } from "../../adapters/drizzle/mod.ts";
import { Cache } from "../../cache/mod.ts";
import { postgresChanges } from "../../changes/mod.ts";
import { type RedisServer, startRedis } from "../../tools/servers/redis_server.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { createTestDatabase, type TestDatabase } from "../support/test_database.ts";
import { PlainRedisCache } from "./_plain_redis_cache.ts";
import { later } from "../support/later.ts";

const bytea = customType<{ data: Buffer }>({ dataType: () => "bytea" });
const orders = pgTable("orders", { id: integer().primaryKey(), total: integer().notNull() });
const paid = pgTable("paid", { order: integer().primaryKey() });
const keyless = pgTable("keyless", { total: integer() });
const values = pgTable("values", {
  id: integer().primaryKey(),
  price: numeric(),
  big: bigint({ mode: "bigint" }),
  ratio: doublePrecision(),
  at: timestamp({ withTimezone: true }),
  seen: timestamp({ mode: "string" }),
  doc: jsonb(),
  raw: bytea(),
  words: text().array(),
});

type Pool = InstanceType<typeof pg.Pool>;

let database: TestDatabase;
let redisServer: RedisServer;
let admin: postgres.Sql;
let stack: AsyncDisposableStack;
let prefix = "";

/** A pool whose next answer to a query of `orders` is held back. */
interface HeldPool {
  readonly pool: Pool;
  /** How many queries of tables it has answered. */
  readonly queries: () => number;
  /** Has a read begin, and holds the answer that Postgres gives it, until it is let go. */
  readonly hold: <T>(read: () => PromiseLike<T>) => Promise<{ answer: Promise<T>; letGo(): void }>;
}

function openPool(connectionString: string = database.url): HeldPool {
  const pool = new pg.Pool({ connectionString, max: 4 });
  pool.on("error", () => undefined);
  stack.defer(() => pool.end());
  const query = pool.query.bind(pool);
  let queries = 0;
  let held: PromiseWithResolvers<() => void> | undefined;
  pool.query = async (statement: unknown, parameters?: unknown[]) => {
    const result = await query(statement as string, parameters);
    if (!/ from "/.test(String(Reflect.get(Object(statement), "text")))) return result;
    queries++;
    const holding = held;
    held = undefined;
    if (holding !== undefined) {
      await new Promise<void>((resolve) => holding.resolve(resolve));
    }
    return result;
  };
  return {
    pool,
    queries: () => queries,
    async hold(read) {
      const holding = held = Promise.withResolvers<() => void>();
      const answer = Promise.resolve(read());
      const letGo = await Promise.race([holding.promise, answer]);
      assert(typeof letGo === "function", "answered without asking Postgres");
      return { answer, letGo: letGo as () => void };
    },
  };
}

/** A cache as one process has it, which has caught up. */
async function openCache(): Promise<Cache> {
  const changes = new pg.Pool({ connectionString: database.url, max: 4 });
  changes.on("error", () => undefined);
  stack.defer(() => changes.end());
  const { url } = redisServer;
  const cache = stack.use(new Cache({ url, prefix, changes: postgresChanges(changes) }));
  await eventually(async () => {
    const probe = await cache.begin<number>(`probe:${crypto.randomUUID()}`);
    assert(await probe.fill(1));
  });
  return cache;
}

const client = (pool: Pool) => pool as never; // its own types are those of Node
const openPlain = (pool: Pool) => {
  const redis = new Redis(redisServer.url);
  stack.defer(() => redis.disconnect());
  return drizzle({ client: client(pool), cache: new PlainRedisCache(redis, prefix) });
};
const openCached = async (pool: Pool) =>
  withCache(drizzle({ client: client(pool) }), await openCache()) as unknown as Drizzle;
type Drizzle = ReturnType<typeof openPlain>;

/** Both, and how old a value a race leaves behind. */
const kinds = [
  { name: "Drizzle over a plain Redis", open: openPlain, left: 0 },
  { name: "Drizzle over this cache", open: openCached, left: 15 },
] as const;

const totalOf = async (db: Drizzle) =>
  (await db.select().from(orders).where(eq(orders.id, 42)).$withCache())[0]?.total;
const update = (db: Pick<Drizzle, "update">) =>
  db.update(orders).set({ total: 15 }).where(eq(orders.id, 42));

describe("Drizzle", () => {
  beforeAll(async () => {
    [database, redisServer] = await Promise.all([createTestDatabase(), startRedis()]);
    admin = postgres(database.url, { max: 2, onnotice: () => undefined });
    await admin.unsafe(
      `CREATE TABLE orders (id INT PRIMARY KEY, total INT NOT NULL);
       CREATE TABLE paid ("order" INT PRIMARY KEY);
       CREATE TABLE keyless (total INT);
       CREATE VIEW dear AS SELECT id, total FROM orders WHERE total > 10;
       CREATE TABLE "values" (id INT PRIMARY KEY, price NUMERIC, big BIGINT, ratio FLOAT8,
         at TIMESTAMPTZ, seen TIMESTAMP, doc JSONB, raw BYTEA, words TEXT[])`,
    );
  });
  it("refuses options that are none", async () => {
    await using cache = new Cache();
    for (const options of [{ ttl: 5 }, { global: "false" }, { ttlMs: "5" }]) {
      assertThrows(() => withCache(drizzle.mock(), cache, options as object), TypeError, "Cannot");
    }
  });

  afterAll(async () => {
    await admin.end();
    await redisServer[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    prefix = `t${crypto.randomUUID().slice(0, 8)}`;
    await admin.unsafe("TRUNCATE orders, paid, keyless; INSERT INTO orders VALUES (42, 0)");
  });
  afterEach(() => stack.disposeAsync());

  for (const { name, open, left } of kinds) {
    describe(name, () => {
      it(`answers ${left} after an update during a query`, async () => {
        const { pool, hold } = openPool();
        const db = await open(pool);
        const early = await hold(() => totalOf(db)); // 1. reads 0, and is about to keep it
        await update(db); // 2. writes 15, and invalidates
        early.letGo();
        assertEquals(await early.answer, 0); // 3. keeps 0
        assertEquals(await totalOf(db), left);
      });

      it(`answers ${left} after a transaction that others read beside`, async () => {
        const db = await open(openPool().pool);
        const written = Promise.withResolvers<void>();
        const beside = Promise.withResolvers<void>();
        const transaction = later(db.transaction(async (tx) => {
          await update(tx); // 1. invalidates, if it does, before anybody may read 15
          written.resolve();
          await beside.promise;
        }));
        await written.promise;
        assertEquals(await totalOf(db), 0); // 2. reads 0, and keeps it
        beside.resolve();
        await transaction; // 3. commits
        assertEquals(await totalOf(db), left);
      });

      it(`${left === 0 ? "loses" : "sees"} what psql writes`, async () => {
        const db = await open(openPool().pool);
        assertEquals(await totalOf(db), 0);
        await admin`UPDATE orders SET total = 15 WHERE id = 42`;
        if (left !== 0) return await eventually(async () => assertEquals(await totalOf(db), left));
        assertEquals(await totalOf(db), left);
      });

      it(`${left === 0 ? "keeps" : "forgets"} what was rolled back`, async () => {
        const db = await open(openPool().pool);
        await assertRejects(() =>
          db.transaction(async (tx) => {
            await update(tx);
            assertEquals(await totalOf(tx as unknown as Drizzle), 15);
            tx.rollback();
          })
        );
        assertEquals(await totalOf(db), left === 0 ? 15 : 0);
      });
    });
  }

  describe("withCache()", () => {
    /** A database whose queries are all cached, and how many of them Postgres has answered. */
    const openGlobal = async (opened?: Cache) => {
      const { pool, queries } = openPool();
      const cache = opened ?? await openCache();
      const db = withCache(drizzle({ client: client(pool) }), cache, { global: true });
      return { db: db as unknown as Drizzle, queries, cache };
    };
    /** How many queries a read takes once it has been read, and what was written before has been told of. */
    const queriesOfSecond = async (
      { db, queries, cache }: Awaited<ReturnType<typeof openGlobal>>,
      read: (db: Drizzle) => PromiseLike<unknown>,
    ): Promise<number> => {
      await cache.changes.caughtUp();
      const first = await read(db);
      const before = queries();
      assertEquals(await read(db), first);
      return queries() - before;
    };

    it("answers values as the driver does", async () => {
      const opened = await openGlobal();
      const row = {
        id: 1,
        price: "1.10",
        big: 2n ** 60n,
        ratio: NaN,
        at: new Date(5),
        seen: "2026-01-02 03:04:05.678",
        doc: { a: [null, 1.5, "x"] },
        raw: Buffer.from([0, 255]),
        words: ["a", ","],
      };
      await opened.db.insert(values).values(row);
      assertEquals(await opened.db.select().from(values), [row]);
      assertEquals(await queriesOfSecond(opened, (db) => db.select().from(values)), 0);
      const [second] = await opened.db.select().from(values);
      assert(Buffer.isBuffer(second?.raw));
    });

    it("keeps what Drizzle does not tell is read", async () => {
      const opened = await openGlobal();
      const isPaid = (db: Drizzle) =>
        db.select().from(orders)
          .where(exists(db.select().from(paid).where(eq(paid.order, orders.id))));
      assertEquals(await queriesOfSecond(opened, isPaid), 0);
      await opened.db.insert(paid).values({ order: 42 });
      assertEquals((await isPaid(opened.db)).length, 1);
    });

    it("keeps what raw SQL reads in a list of tables, or changes by EXPLAIN ANALYZE", async () => {
      const opened = await openGlobal();
      const texts = [
        "SELECT count(*) FROM (SELECT 1) x, orders WHERE total > 0",
        "SELECT count(*) FROM values AS v(i), (paid CROSS JOIN orders) WHERE total > 0",
        "SELECT sum(total) FROM (TABLE orders) x",
      ];
      for (const text of texts) {
        const read = async (db: Drizzle) => {
          const [row] = await db.select({ n: sql<string>`(${sql.raw(text)})` }).from(paid).limit(1);
          return row?.n;
        };
        await opened.db.insert(paid).values({ order: 42 }).onConflictDoNothing();
        await opened.db.insert(values).values({ id: 1 }).onConflictDoNothing();
        await opened.db.execute(sql`UPDATE ${orders} SET total = 0`);
        assertEquals(await read(opened.db), "0", text);
        await opened.db.execute(sql`EXPLAIN ANALYZE UPDATE ${orders} SET total = 1`);
        assertEquals(await read(opened.db), "1", text);
      }
    });

    it("caches nothing that nobody tells of, or that is read in a transaction", async () => {
      const opened = await openGlobal();
      const reads: Record<string, (db: Drizzle) => PromiseLike<unknown>> = {
        "a table without a key": (db) => db.select().from(keyless),
        "a view": (db) => db.select({ n: sql`1` }).from(sql`"dear"`),
        "a query that says so": (db) => db.select().from(orders).$withCache(false),
        "a lock": (db) =>
          db.select().from(orders).for("update").$withCache({ autoInvalidate: false }),
        "a transaction": (db) => db.transaction((tx) => tx.select().from(orders)),
      };
      for (const [name, read] of Object.entries(reads)) {
        const expected = name === "a transaction" ? 0 : 1; // its connection is not counted
        const before = opened.queries();
        assertEquals(await queriesOfSecond(opened, read), expected, name);
        assertEquals(opened.queries() - before, 2 * expected, name);
      }
      assertEquals(await queriesOfSecond(opened, (db) => db.select().from(orders)), 0);
    });

    it("has other processes see what one has written", async () => {
      const [one, other] = [await openCache(), await openCache()];
      const [writer, reader] = [(await openGlobal(one)).db, (await openGlobal(other)).db];
      assertEquals(await reader.select().from(orders), [{ id: 42, total: 0 }]);
      await update(writer);
      await other.changes.caughtUp();
      assertEquals(await reader.select().from(orders), [{ id: 42, total: 15 }]);
      await writer.execute(sql`UPDATE ${orders} SET total = 16`);
      assertEquals(await writer.select().from(orders), [{ id: 42, total: 16 }]);
    });

    it("tells runs of one prepared statement apart", async () => {
      const { pool, hold } = openPool();
      const db = withCache(drizzle({ client: client(pool) }), await openCache(), { global: true });
      const prepared = db.select().from(orders).prepare("all_orders");
      await prepared.execute();
      await update(db as unknown as Drizzle);
      const early = await hold(() => prepared.execute()); // reads 15 and has the lease
      await admin`UPDATE orders SET total = 20`;
      await db.transaction(async () => {}); // waits until that has been told
      const later = await prepared.execute(); // reads 20, and fills under a lease of its own
      early.letGo(); // its own lease is over
      assertEquals(later, [{ id: 42, total: 20 }]);
      assertEquals(await early.answer, [{ id: 42, total: 15 }]);
      assertEquals(await prepared.execute(), [{ id: 42, total: 20 }]);
    });

    it("gives the right to fill back when a query fails", async () => {
      const opened = await openGlobal();
      const failing = (db: Drizzle, divisor: number) =>
        db.select({ n: sql<number>`1 / ${divisor}::int` }).from(orders);
      await assertRejects(async () => await failing(opened.db, 0));
      assertEquals(await queriesOfSecond(opened, (db) => failing(db, 1)), 0);
      const released: boolean[] = [];
      const cache = await openCache();
      const begin = cache.begin.bind(cache);
      cache.begin = async (...args) => {
        const slot = await begin(...args as Parameters<typeof begin>);
        const release = () => Promise.resolve(void released.push(true));
        return Object.assign(slot, { release }) as never;
      };
      await assertRejects(async () => await failing((await openGlobal(cache)).db, 0));
      assertEquals(released, [true]);
    });

    it("invalidates by a tag, under which several queries may be", async () => {
      const opened = await openGlobal();
      const tagged = (id: number) =>
        opened.db.select({ id: sql<number>`${id}::int` }).from(orders)
          .$withCache({ tag: "mine", autoInvalidate: false, config: { ex: 60 } });
      assertEquals([await tagged(1), await tagged(2)], [[{ id: 1 }], [{ id: 2 }]]);
      assertEquals(await queriesOfSecond(opened, () => tagged(1)), 0);
      await update(opened.db);
      assertEquals(await queriesOfSecond(opened, () => tagged(1)), 0);
      const before = opened.queries();
      await opened.db.$cache.invalidate({ tags: ["mine"] });
      await tagged(1);
      assertEquals(opened.queries(), before + 1);
    });

    it("clears the cache when Postgres cannot say what was written", async () => {
      const cache = await openCache();
      const { db } = await openGlobal(cache);
      assertEquals(await db.select().from(orders), [{ id: 42, total: 0 }]);
      Object.assign(cache.changes, { caughtUp: () => Promise.reject(new Error("down")) });
      await update(db);
      assertEquals(await db.select().from(orders), [{ id: 42, total: 15 }]);
    });

    it("keeps nothing of a transaction on the connection that it has", async () => {
      const connection = new pg.Client({ connectionString: database.url });
      await connection.connect();
      stack.defer(() => connection.end());
      const db = withCache(drizzle({ client: connection as never }), await openCache(), {
        global: true,
      });
      await assertRejects(() =>
        db.transaction(async (tx) => {
          await tx.update(orders).set({ total: 15 });
          assertEquals(await tx.select().from(orders), [{ id: 42, total: 15 }]);
          tx.rollback();
        })
      );
      assertEquals(await db.select().from(orders), [{ id: 42, total: 0 }]);
    });

    it("has a write that a transaction left running invalidate like any other", async () => {
      const opened = await openGlobal();
      const ended = Promise.withResolvers<void>();
      let left: Promise<unknown> | undefined;
      await opened.db.transaction(() => {
        left = ended.promise.then(async () => {
          assertEquals(await queriesOfSecond(opened, (db) => db.select().from(orders)), 0);
          await opened.db.update(orders).set({ total: 30 });
        });
        return Promise.resolve();
      });
      ended.resolve();
      await left;
      assertEquals(await opened.db.select().from(orders), [{ id: 42, total: 30 }]);
    });

    it("caches nothing of a table that a search path leads to", async () => {
      await admin.unsafe(
        `CREATE SCHEMA IF NOT EXISTS app;
         CREATE TABLE IF NOT EXISTS app.orders (id INT PRIMARY KEY, total INT NOT NULL);
         TRUNCATE app.orders; INSERT INTO app.orders VALUES (42, 1)`,
      );
      const url = `${database.url}?options=-c%20search_path%3Dapp,public`;
      const elsewhere = openPool(url);
      const db = withCache(drizzle({ client: client(elsewhere.pool) }), await openCache(), {
        global: true,
      });
      for (const total of [1, 2]) {
        await admin`UPDATE app.orders SET total = ${total}`;
        assertEquals(await db.select().from(orders), [{ id: 42, total }]);
      }
      assertEquals(elsewhere.queries(), 2);
      await db.select().from(paid); // in public, as the path says in the end
      await db.select().from(paid);
      assertEquals(elsewhere.queries(), 3);
    });

    it("works over postgres.js, with the rows of its own", async () => {
      const sql = postgres(database.url, { max: 3, onnotice: () => undefined });
      stack.defer(() => sql.end());
      const db = withCache(drizzlePostgresJs({ client: sql }), await openCache(), { global: true });
      assertEquals(await db.select().from(orders), [{ id: 42, total: 0 }]);
      assertEquals(await db.select().from(orders), [{ id: 42, total: 0 }]);
      await db.transaction((tx) => tx.update(orders).set({ total: 15 }));
      assertEquals(await db.select().from(orders), [{ id: 42, total: 15 }]);
    });
  });
});
