/**
 * The changes module behind a pooler that gives each transaction whichever connection is free.
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import postgres from "postgres";
// @ts-types="../support/pg.d.ts"
import pg from "pg";
import { Cache } from "../../cache/mod.ts";
import { type AnyDatabase, postgresChanges, table } from "../../changes/mod.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { startPgBouncer } from "../../tools/servers/pgbouncer_server.ts";
import { createTestDatabase } from "../support/test_database.ts";

/** How long a foreign write may take to be seen where nobody listens, on a machine that is busy. */
const POLL_MS = 200;

describe("behind PgBouncer in transaction mode", () => {
  const drivers = {
    pg: (url: string) => {
      const pool = new pg.Pool({ connectionString: url, max: 4 });
      pool.on("error", () => undefined);
      return { pool: pool as AnyDatabase, end: () => pool.end() };
    },
    postgres: (url: string) => {
      const sql = postgres(url, { max: 4, prepare: false, onnotice: () => undefined });
      return { pool: sql as AnyDatabase, end: () => sql.end({ timeout: 1 }) };
    },
  };
  for (const [name, open] of Object.entries(drivers)) {
    it(`a cache over ${name} installs, watches and follows`, async () => {
      await using database = await createTestDatabase();
      await using bouncer = await startPgBouncer(database.url);
      const direct = postgres(database.url, { max: 1, onnotice: () => undefined });
      await direct`CREATE TABLE orders (id INT PRIMARY KEY, customer_id INT)`;
      await direct`INSERT INTO orders VALUES (1, 7)`;
      const { pool, end } = open(bouncer.url);
      const errors: unknown[] = [];
      const changes = postgresChanges(pool, {
        listen: false,
        pollMs: POLL_MS,
        onError: (error) => void errors.push(error),
      });
      const cache = new Cache({ changes });
      await cache.changes.caughtUp();
      const orders = table(cache, "orders", { columns: ["customer_id"] });
      let loads = 0;
      const load = async () => {
        loads++;
        return (await direct`SELECT customer_id FROM orders WHERE id = 1`)[0]?.["customer_id"];
      };
      for (const customer of [8, 9, 10]) {
        await orders.row(1, load);
        await direct`UPDATE orders SET customer_id = ${customer} WHERE id = 1`;
        await eventually(async () => assertEquals((await orders.row(1, load)).value(), customer));
      }
      assertEquals(loads, 4);
      assertEquals(errors, []);
      await cache.close();
      await end();
      await direct.end();
    });
  }
});
