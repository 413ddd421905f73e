/**
 * A database with a table that is watched.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { afterAll, afterEach, beforeAll, beforeEach } from "@std/testing/bdd";
import type postgres from "postgres";
import { eventually } from "../../tools/servers/eventually.ts";
import { type ChangesFixture, createChangesDatabase, type Noted } from "./changes_fixture.ts";
import { later } from "../support/later.ts";

export let fixture: ChangesFixture;
export let sql: postgres.Sql;

export const run = async (statement: string): Promise<void> => {
  await sql.begin(async (on) => void await on.unsafe(statement));
};

/** What is noted of `statement`. */
export async function notedOf(statement: string): Promise<Noted[]> {
  await fixture.noted();
  await run(statement);
  return await fixture.noted();
}

/** One connection, which may begin a transaction. */
export const session = (): postgres.Sql => fixture.connect(fixture.urls.owner, { max: 1 });

/** Waits until a transaction waits for a lock on a table. */
export async function lockAwaited(name: string): Promise<void> {
  await eventually(async () => {
    const waits =
      await sql`SELECT 1 FROM pg_locks WHERE NOT granted AND relation = ${name}::REGCLASS`;
    assertEquals(waits.length, 1);
  }, { everyMs: 5 });
}

/** Watches the table while a reader of `name` keeps a trigger from being dropped, and a writer passes. */
export async function watchBesideReader(name: string): Promise<void> {
  const reader = session();
  await reader.unsafe(`BEGIN; SELECT count(*) FROM ${name}`);
  const watching = later(sql.unsafe("SELECT lookaside.watch('orders')").execute());
  try {
    await lockAwaited(name);
    await run("SET LOCAL statement_timeout = '2s'; UPDATE orders SET note = 'passes'");
  } finally {
    await reader.unsafe("COMMIT");
  }
  await watching;
}

export const whole = (label: string): Noted => ({ label, keys: null, values: null });
export const one = (label: string, keys: string[], values: string[] | null = null): Noted[] => [
  { label, keys, values },
];

/** Makes the database, and for each test a table `orders` of nine rows, which nobody watches. */
export function onWatchStage(server: () => string): void {
  beforeAll(async () => {
    fixture = await createChangesDatabase(server());
    sql = fixture.owner;
  });
  afterAll(async () => await fixture[Symbol.asyncDispose]());
  beforeEach(async () => {
    await run(
      `CREATE TABLE orders (id SERIAL PRIMARY KEY, customer_id INT, note TEXT, seen TIMESTAMPTZ);
      INSERT INTO orders (customer_id) SELECT g % 3 FROM generate_series(1, 9) g`,
    );
  });
  afterEach(async () => {
    await run(
      "SELECT lookaside.forget(label) FROM lookaside.watched; DROP TABLE IF EXISTS orders CASCADE",
    );
  });
}
