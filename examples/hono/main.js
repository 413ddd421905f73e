// deno-lint-ignore-file no-console -- a program talks to its terminal
import { serve } from "@hono/node-server";
import { Cache } from "@lookaside/cache";
import { cached } from "@lookaside/cache/hono";
import { postgresChanges, table } from "@lookaside/changes";
import { Hono } from "hono";
import pg from "pg";

const { DATABASE_URL, REDIS_URL, PORT = "3000" } = process.env;
const pool = new pg.Pool({ connectionString: DATABASE_URL });
pool.on("error", console.error); // a connection that waited in the pool was ended
const cache = new Cache({
  url: REDIS_URL,
  changes: postgresChanges(pool, { onError: console.error }),
});
const orders = await table(cache, "orders", { columns: ["customer_id"] }).watched();

const app = new Hono();
const ofCustomer = (context) => orders.tags({ customer_id: context.req.param("id") });
app.get(
  "/customers/:id{[1-9][0-9]{0,8}}/orders",
  cached(cache, { tags: ofCustomer }),
  async (context) => {
    const sql = "SELECT * FROM orders WHERE customer_id = $1 ORDER BY id";
    return context.json((await pool.query(sql, [context.req.param("id")])).rows);
  },
);
await cache.changes.caughtUp(); // before the first request, so that it finds what is cached
const server = serve({ fetch: app.fetch, port: Number(PORT), hostname: "127.0.0.1" });
server.on("listening", () => console.log("listening"));

process.once("SIGTERM", async () => {
  server.close();
  await cache.close();
  await pool.end();
});
