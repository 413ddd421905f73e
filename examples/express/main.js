// deno-lint-ignore-file no-console -- a program talks to its terminal
import { Cache } from "@lookaside/cache";
import { postgresChanges, table } from "@lookaside/changes";
import express from "express";
import pg from "pg";

const { DATABASE_URL, REDIS_URL, PORT = "3000" } = process.env;
const pool = new pg.Pool({ connectionString: DATABASE_URL });
pool.on("error", console.error); // a connection that waited in the pool was ended
const cache = new Cache({
  url: REDIS_URL,
  changes: postgresChanges(pool, { onError: console.error }),
});
const orders = table(cache, "orders", { columns: ["customer_id"], ttlMs: 60_000 });
const query = async (sql, values) => (await pool.query(sql, values)).rows;

const app = express();
app.get("/orders/:id", async ({ params: { id } }, response) => {
  if (!/^[1-9]\d{0,8}$/.test(id)) return response.sendStatus(400);
  const load = async () => (await query("SELECT * FROM orders WHERE id = $1", [id]))[0];
  const { text, source } = await orders.row(id, load);
  if (text === null) return response.sendStatus(404);
  response.set("x-source", source).type("json").send(text);
});
app.get("/customers/:id/orders", async ({ params: { id } }, response) => {
  if (!/^[1-9]\d{0,8}$/.test(id)) return response.sendStatus(400);
  const load = () => query("SELECT * FROM orders WHERE customer_id = $1 ORDER BY id", [id]);
  const { text, source } = await orders.where({ customer_id: id }, load);
  response.set("x-source", source).type("json").send(text);
});
await cache.changes.caughtUp(); // before the first request, so that it finds what is cached
const server = app.listen(Number(PORT), "127.0.0.1", () => console.log("listening"));

process.once("SIGTERM", async () => {
  server.close();
  await cache.close();
  await pool.end();
});
