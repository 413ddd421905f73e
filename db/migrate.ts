/**
 * Numbered migrations: each is applied once, in order, even if several programs start at the same time.
 *
 * @module
 */
import type { Database, Queryable } from "./database.ts";

/** The `pg_advisory_xact_lock` of migrations: a number that no other program should use ("look"). */
const MIGRATION_LOCK = 0x6c6f6f6b;

const FILE_NAME = /^(\d{4})_\w+\.sql$/;

/** A migration in its file. */
export interface Migration {
  /** The number at the start of its name. */
  readonly number: number;
  /** The name of its file. */
  readonly name: string;
  /** Its statements. */
  readonly sql: string;
}

/** An applied migration differs from its file. */
export class MigrationChangedError extends Error {
  override readonly name = "MigrationChangedError";
}

/**
 * Applies the migrations that `database` does not have yet, and answers their names. Each runs in its own
 * transaction, so if one fails, earlier ones stay applied and nothing is half-done.
 *
 * @throws {MigrationChangedError} An applied one has changed since; later ones are not applied.
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
 * Reads the migrations of this service. Needs read permission for their folder, which the running service does
 * not have: it expects a migrated database.
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

/** Applies one migration unless it is recorded. Answers true if it was applied now. */
async function applyOnce(
  transaction: Queryable,
  migration: Migration,
  checksum: string,
): Promise<boolean> {
  // The lock first: even CREATE TABLE IF NOT EXISTS fails if two run it at the same time.
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
  // A checkout on Windows may have other line ends.
  const bytes = new TextEncoder().encode(sql.replaceAll("\r\n", "\n"));
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
