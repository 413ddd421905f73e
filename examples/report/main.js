// deno-lint-ignore-file no-console -- a program talks to its terminal
import { Cache } from "@lookaside/cache";
import { postgresChanges, table } from "@lookaside/changes";
import pg from "pg";

const { DATABASE_URL, REDIS_URL } = process.env;
const pool = new pg.Pool({ connectionString: DATABASE_URL });
pool.on("error", console.error); // a connection that waited in the pool was ended
const changes = postgresChanges(pool, { onError: console.error });
const cache = new Cache({ url: REDIS_URL, prefix: "reports", ttlMs: 3_600_000, changes });
const orders = table(cache, "orders");

/** Takes a while on a large table. */
async function salesByCustomer() {
  const sql = `SELECT customer_id, count(*)::int AS orders, sum(total)::int AS total
    FROM orders GROUP BY customer_id ORDER BY total DESC, customer_id LIMIT 3`;
  return (await pool.query(sql)).rows;
}

await cache.changes.caughtUp(); // what has been written until now has ended the report before
const report = await orders.any("sales by customer", salesByCustomer);
for (const { customer_id, orders, total } of report.value() ?? []) {
  console.log(`customer ${customer_id}: ${orders} orders, ${total}`);
}
console.log(report.source === "load" ? "made now" : `from ${report.source}`);

await cache.close();
await pool.end();
