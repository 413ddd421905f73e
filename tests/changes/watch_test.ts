import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { eventually } from "../../tools/servers/eventually.ts";
import { startPostgres } from "../../tools/servers/postgres_server.ts";
import { requiredEnv } from "../support/test_database.ts";
import { createChangesDatabase } from "./changes_fixture.ts";
import { watchSuite } from "./watch_suite.ts";

describe("lookaside.watch()", () => watchSuite(() => requiredEnv("DATABASE_URL")));

describe("lookaside.watch() of a table that is being vacuumed", () => {
  it("has Postgres cancel a long autovacuum", async () => {
    await using server = await startPostgres({ settings: { autovacuum_naptime: "1s" } });
    await using fixture = await createChangesDatabase(server.url);
    const { admin, owner } = fixture;
    await owner.unsafe(
      `CREATE TABLE orders (id INT PRIMARY KEY)
       WITH (autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);
       INSERT INTO orders SELECT generate_series(1, 100000); DELETE FROM orders;
       SELECT pg_stat_force_next_flush()`,
    );
    const vacuums = async () =>
      (await admin`SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE l.relation = 'orders'::REGCLASS AND a.backend_type = 'autovacuum worker'`).length;
    await eventually(async () => assertEquals(await vacuums(), 1));
    await owner.unsafe("SET statement_timeout = '6s'; SELECT lookaside.watch('orders')");
    assertEquals(await vacuums(), 0);
  });
});
