// deno-lint-ignore-file no-console -- a program talks to its terminal
import { Cache } from "@lookaside/cache";
import { postgresChanges } from "@lookaside/changes";
import { withCache } from "@lookaside/drizzle";
import { desc, eq, sql, sum } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import { integer, pgTable } from "drizzle-orm/pg-core";
import pg from "pg";

const { DATABASE_URL, REDIS_URL } = process.env;
const pool = new pg.Pool({ connectionString: DATABASE_URL });
pool.on("error", console.error); // a connection that waited in the pool was ended
const changes = postgresChanges(pool, { onError: console.error });
const cache = new Cache({ url: REDIS_URL, prefix: "shop", changes });
const db = withCache(drizzle({ client: pool }), cache, { ttlMs: 60_000 });

const orders = pgTable("orders", {
  id: integer().primaryKey(),
  customer: integer("customer_id").notNull(),
  total: integer().notNull(),
});
const best = () =>
  db.select({ customer: orders.customer, total: sum(orders.total) }).from(orders)
    .groupBy(orders.customer).orderBy(desc(sum(orders.total))).limit(1).$withCache();

await cache.changes.caughtUp();
const [before] = await best();
console.log(`the best customer is ${before?.customer} with ${before?.total}`);
await db.transaction(async (tx) => {
  await tx.update(orders).set({ total: sql`${orders.total} + 1000` }).where(eq(orders.id, 42));
});
const [after] = await best();
console.log(`after a sale it is ${after?.customer} with ${after?.total}`);
await best();
const { memory, redis } = cache.stats();
console.log(`${memory.hits + redis.hits} of 3 queries answered from the cache`);

await cache.close();
await pool.end();
