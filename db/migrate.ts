/**
 * Numbered migrations: each is applied once, in order, however many programs start at once.
 *
 * @module
 */
import type { Database, Queryable } from "./database.ts";

/** `pg_advisory_xact_lock` of everyone who migrates. Any number no other program uses ("look"). */
const MIGRATION_LOCK = 0x6c6f6f6b;

const FILE_NAME = /^(\d{4})_\w+\.sql$/;

/** A migration as its file has it. */
export interface Migration {
  /** The number its name starts with. */
  readonly number: number;
  /** The name of its file. */
  readonly name: string;
  /** Its statements. */
  readonly sql: string;
}

/** A migration that was applied is not what its file says now. */
export class MigrationChangedError extends Error {
  /** Names the class in logs. */
  override readonly name = "MigrationChangedError";
}

/**
 * Applies the migrations that `database` does not have yet, and answers their names. Each runs in a
 * transaction of its own, so a failing one leaves those before it applied and nothing half-done.
 *
 * @throws {MigrationChangedError} One that was applied has changed since; nothing after it is applied.
 */
export async function migrate(
  database: Database,
  migrations?: readonly Migration[],
): Promise<string[]> {
  const applied: string[] = [];
  for (const migration of migrations ?? await readMigrations()) {
    const checksum = await checksumOf(migration.sql);
    const isNew = await database.transaction((transaction) =>
      applyOnce(transaction, migration, checksum)
    );
    if (isNew) applied.push(migration.name);
  }
  return applied;
}

/**
 * Reads the migrations of this service. Needs read permission for their folder, which the running
 * service does not have: it expects a database that was migrated.
 */
export async function readMigrations(): Promise<Migration[]> {
  const folder = new URL("./migrations/", import.meta.url);
  const migrations: Migration[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    const number = FILE_NAME.exec(name)?.[1];
    if (number === undefined) continue;
    const sql = await Deno.readTextFile(new URL(name, folder));
    migrations.push({ number: Number(number), name, sql });
  }
  return migrations.sort((a, b) => a.number - b.number);
}

/** Applies one migration unless it is recorded. Answers whether it was applied now. */
async function applyOnce(
  transaction: Queryable,
  migration: Migration,
  checksum: string,
): Promise<boolean> {
  // First the lock: even CREATE TABLE IF NOT EXISTS fails when two run it at once.
  await transaction.query("SELECT pg_advisory_xact_lock($1)", [MIGRATION_LOCK]);
  await transaction.query(`
    CREATE TABLE IF NOT EXISTS lookaside_migrations (
      number INTEGER PRIMARY KEY,
      name TEXT NOT NULL,
      checksum TEXT NOT NULL,
      applied_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
    )`);
  const [recorded] = await transaction.query<{ name: string; checksum: string }>(
    "SELECT name, checksum FROM lookaside_migrations WHERE number = $1",
    [migration.number],
  );
  if (recorded?.checksum === checksum) return false;
  if (recorded !== undefined) {
    throw new MigrationChangedError(
      `Cannot migrate: ${migration.name} is not what was applied as ${recorded.name}. ` +
        "Restore it, and put the change into a new migration",
    );
  }
  await transaction.query(migration.sql);
  await transaction.query(
    "INSERT INTO lookaside_migrations (number, name, checksum) VALUES ($1, $2, $3)",
    [migration.number, migration.name, checksum],
  );
  return true;
}

async function checksumOf(sql: string): Promise<string> {
  // A checkout on Windows may end its lines otherwise.
  const bytes = new TextEncoder().encode(sql.replaceAll("\r\n", "\n"));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
