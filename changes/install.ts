/**
 * Installs the SQL of the changes in a database.
 *
 * @module
 */
import { type ChangesDatabase, type Query, READS_COMMITTED } from "./database.ts";
import type { ChangesProblem } from "./health.ts";
import { assertOptions } from "./options.ts";
import { changesStatements, changesVersion, INSTALL_PATH } from "./schema.ts";
import { type Clock, sleep, systemClock } from "./runtime.ts";
import { sqlStateOf } from "./_sqlstate.ts";

/**
 * The advisory lock of installations, so that they run one at a time: a number that no other program should use
 * ("look").
 */
const INSTALL_LOCK = 0x6c6f6f6b;
/** Limit of waiting for a lock, because other statements queue behind one that waits. */
const LOCK_TIMEOUT_MS = 500;
const TRIES_MAX = 20;
const RETRY_MS = 250;
/** A lock that was not granted in time, or a deadlock. */
const LOCKED = /^(55P03|40P01)$/;

/** Options of {@linkcode installChanges}. */
export interface InstallOptions {
  /** A role that may then relay, and nothing else in the schema. */
  readonly service?: string;
  /** The clock. Default: the system's. */
  readonly clock?: Clock;
}

/** A problem of a watched table. */
export interface WatchProblem extends ChangesProblem {
  /** The label of the table. */
  readonly label: string;
}

/**
 * Makes sure that the database has the schema `lookaside` in this version or a later one, and that it watches
 * the watched tables. If that is so already, nothing is changed, and none of your tables is locked.
 *
 * Needs CREATE on the database once. Answers what is left for a person to do.
 *
 * @throws {TypeError} An option is unknown or has another type.
 * @throws {Error} The schema belongs to another role, or Postgres refuses.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { installChanges } from "@lookaside/changes";
 *
 * const query = (sql: string) =>
 *   Promise.resolve(sql.includes("lookaside.installed") ? [{ version: 9999 }] : []) as Promise<never[]>;
 * const database = { query, transaction: (run: (q: typeof query) => Promise<never>) => run(query) };
 * assert.deepEqual(await installChanges(database), []); // a later version is there
 * ```
 */
export async function installChanges(
  database: ChangesDatabase,
  options: InstallOptions = {},
): Promise<WatchProblem[]> {
  assertOptions(options, { service: "string", clock: "object" });
  const { service, clock = systemClock } = options;
  for (let failures = 0;;) {
    try {
      if (await versionOf(database.query) < changesVersion) await database.transaction(install);
      break;
    } catch (error) {
      if (!LOCKED.test(sqlStateOf(error)) || ++failures === TRIES_MAX) throw error;
      await sleep(clock, RETRY_MS);
    }
  }
  if (service !== undefined) {
    // By its name as it is, such as app@project.iam; or quoted as in SQL.
    await database.query(
      `SELECT lookaside.admit(coalesce(
         (SELECT oid FROM pg_roles WHERE rolname = $1::TEXT)::REGROLE, $1::TEXT::REGROLE))`,
      [service],
    );
  }
  return await checkWatched(database);
}

/**
 * Installs as a program that nobody has asked to: not where all tables are published, also those to come. A subscriber
 * that lacks the schema `lookaside` would stop at the first change.
 *
 * @throws {Error} All tables are published, or as {@linkcode installChanges}.
 */
export async function installUnasked(database: ChangesDatabase): Promise<WatchProblem[]> {
  if (await versionOf(database.query) === 0) {
    const [found] = await database.query<{ name: string }>(
      "SELECT pubname AS name FROM pg_catalog.pg_publication WHERE puballtables LIMIT 1",
    );
    if (found !== undefined) {
      throw new Error(
        `Cannot install the schema lookaside unasked: the publication ${found.name} is FOR ALL TABLES, and ` +
          "subscribers that lack the schema would stop. Change it, then: npx @lookaside/changes install",
      );
    }
  }
  return await installChanges(database);
}

/**
 * Repairs watched tables: new partitions, renamed columns, dropped triggers. Answers what it may not or cannot
 * repair.
 */
export async function checkWatched(database: ChangesDatabase): Promise<WatchProblem[]> {
  return await database.query<WatchProblem>("SELECT label, problem, remedy FROM lookaside.check()");
}

/** Says that the installed version lacks what this program brings, which a role that may install must then do. */
export async function outdated({ query }: ChangesDatabase): Promise<ChangesProblem | undefined> {
  const [installed] = await query<{ version: number }>("SELECT version FROM lookaside.installed");
  if (installed === undefined || installed.version >= changesVersion) return undefined;
  return {
    problem:
      `The schema lookaside has version ${installed.version}, and lacks the repairs up to ${changesVersion}, that of this program`,
    remedy:
      "As its owner: npx @lookaside/changes install, or for the service deno task seed --count 0",
  };
}

/** The installed version; 0 if there is none. */
async function versionOf(query: Query): Promise<number> {
  const [found] = await query<{ there: boolean }>(
    `SELECT EXISTS (
       SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname = 'lookaside' AND c.relname = 'installed'
     ) AS there`,
  );
  if (found?.there !== true) return 0;
  const [row] = await query<{ version: number }>("SELECT version FROM lookaside.installed");
  return row?.version ?? 0;
}

async function install(query: Query): Promise<void> {
  await query(READS_COMMITTED);
  await query(INSTALL_PATH);
  await query(`SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`);
  await query(`SELECT pg_advisory_xact_lock(${INSTALL_LOCK})`);
  if (await versionOf(query) >= changesVersion) return;
  const [schema] = await query<{ refusal: string }>(
    `SELECT 'it belongs to ' || nspowner::REGROLE AS refusal FROM pg_namespace
     WHERE nspname = 'lookaside' AND NOT pg_has_role(nspowner, 'USAGE')`,
  );
  if (schema !== undefined) {
    throw new Error(`Cannot install into the schema lookaside: ${schema.refusal}`);
  }
  for (const statement of changesStatements) await query(statement);
}
