/**
 * Creates the database that a URL names.
 *
 * @module
 */
import { type Database, type DatabaseOptions, DatabaseUnavailableError } from "./database.ts";
import { changePostgresUrl, parsePostgresUrl } from "./postgres_url.ts";
import { quoteIdentifier } from "./quote_identifier.ts";

/** A database of every server, to connect to while the wanted one does not exist. */
const MAINTENANCE_DATABASE = "postgres";

/** A driver's `connect`. */
export type Connect = (options: DatabaseOptions) => Database;

/**
 * Creates the database that `url` names unless it exists. Answers true if this call created it. Several callers
 * may race: one creates it, and it exists for all of them afterwards.
 *
 * @throws {TypeError} `url` names no database.
 * @throws {DatabaseUnavailableError} The server cannot be reached.
 */
export async function ensureDatabase(connect: Connect, url: string): Promise<boolean> {
  const name = decodeURIComponent(parsePostgresUrl(url).urls[0].pathname.slice(1));
  if (name === "") throw new TypeError("Cannot create a database: the URL names none");
  const refusal = await refusalOf(connect, url);
  if (refusal === undefined) return false;

  const maintenanceUrl = changePostgresUrl(url, (maintenance) => {
    maintenance.pathname = `/${MAINTENANCE_DATABASE}`;
  });
  await using database = connect({ url: maintenanceUrl, poolMax: 1 });
  // It exists, so the refusal has another reason: a wrong password, no right to connect.
  if (await exists(database, name)) throw refusal;
  try {
    await database.query(`CREATE DATABASE ${quoteIdentifier(name)}`);
    return true;
  } catch (error) {
    if (await exists(database, name)) return false;
    throw error;
  }
}

/**
 * The reason why the database cannot be used; `undefined` if it can. Asked first, since many users may connect
 * only to their own.
 */
async function refusalOf(connect: Connect, url: string): Promise<unknown> {
  await using database = connect({ url, poolMax: 1 });
  try {
    await database.query("SELECT 1");
    return undefined;
  } catch (error) {
    if (error instanceof DatabaseUnavailableError) throw error;
    return error;
  }
}

async function exists(database: Database, name: string): Promise<boolean> {
  const rows = await database.query("SELECT 1 FROM pg_database WHERE datname = $1", [name]);
  return rows.length > 0;
}
