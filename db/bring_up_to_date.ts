import { installChanges } from "../changes/mod.ts";
import { changesDatabase } from "./changes_database.ts";
import type { Database } from "./database.ts";
import { migrate } from "./migrate.ts";

/**
 * Makes sure that a database has the tables of this service, and that their changes are reported to the cache.
 * Changes nothing the second time.
 *
 * @throws {DatabaseUnavailableError} Postgres is unavailable.
 */
export async function bringUpToDate(database: Database): Promise<void> {
  // Before the migrations, which may watch tables.
  await installChanges(changesDatabase(database));
  await migrate(database);
  await database.query("SELECT lookaside.watch('users')");
}
