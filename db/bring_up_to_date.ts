import { installChanges } from "../changes/mod.ts";
import { changesDatabase } from "./changes_database.ts";
import type { Database } from "./database.ts";
import { migrate } from "./migrate.ts";

/**
 * Makes sure that a database has the tables of this service, and that the cache is told what changes in
 * them. Changes nothing the second time.
 *
 * @throws {DatabaseUnavailableError} Postgres cannot answer now.
 */
export async function bringUpToDate(database: Database): Promise<void> {
  // Before the migrations, which may watch tables of theirs.
  await installChanges(changesDatabase(database));
  await migrate(database);
  await database.query("SELECT lookaside.watch('users')");
}
