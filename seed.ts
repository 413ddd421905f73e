// deno-lint-ignore-file no-console -- a command talks to its terminal
/**
 * `deno task seed`: the schema and sample users.
 *
 * Creates the database if it is missing, migrates it, and makes sure that users 1 to `--count` (1,000) exist.
 * `--reset` removes all users first. Running it again changes nothing.
 *
 * As a program of its own it reads only the environment, as in a container; `tools/seed.ts` looks further.
 *
 * @module
 */
import { connect } from "@db/driver";
import { readCa } from "./server/certificates.ts";
import { misused, readOptions } from "./tools/command_line.ts";
import { ConfigError, type DatabaseConfig, readEnvironment } from "./server/config.ts";
import { adviceTo } from "./db/advice.ts";
import type { Database } from "./db/database.ts";
import { ensureDatabase } from "./db/ensure_database.ts";
import { bringUpToDate } from "./db/bring_up_to_date.ts";
import { type SeedOptions, seedUsers } from "./db/seed_users.ts";
import { messageOf } from "./server/message_of.ts";
import { redactUrl } from "./server/redact_url.ts";
import { loadConfig } from "./server/secrets.ts";

/** Ids are 32-bit integers. */
const COUNT_MAX = 2 ** 31 - 1;
/** A migration may rewrite a table, and seeders wait for each other. */
const STATEMENT_TIMEOUT_MS = 600_000;

const COMMAND = {
  name: "deno task seed",
  help: `deno task seed [--count NUMBER] [--reset]

Creates the database of DATABASE_URL if it is missing, brings its schema up to date, and makes sure
that users 1 to --count exist. Running it again changes nothing.

  --count NUMBER  how many users (1000); 0: only the schema
  --reset         delete all users first`,
  options: {
    count: { type: "string", default: "1000" },
    reset: { type: "boolean", default: false },
  },
} as const;

/**
 * Migrates `database` and makes sure that its sample users exist. Answers how many were inserted.
 *
 * @throws {DatabaseUnavailableError} Postgres is unavailable.
 */
export async function seed(database: Database, options: SeedOptions = {}): Promise<number> {
  await bringUpToDate(database);
  return await seedUsers(database, options);
}

/** Opens the configured database, which it creates if it is missing. */
export async function openCreated({ url, caFile }: DatabaseConfig): Promise<Database> {
  const trusted = await readCa(caFile);
  await ensureDatabase((options) => connect({ ...options, ...trusted }), url);
  return connect({ url, ...trusted, poolMax: 2, statementTimeoutMs: STATEMENT_TIMEOUT_MS });
}

/** Runs the command line on the database that `env` names. Prints errors, and answers the exit code. */
export async function runSeed(env: Readonly<Record<string, string | undefined>>): Promise<number> {
  const { count, reset } = parseOptions();
  let where = "";
  try {
    const config = loadConfig(env).database;
    where = redactUrl(config.url);
    const startedAtMs = performance.now();
    await using database = await openCreated(config);
    const inserted = await withProgress(
      count,
      (onProgress) => seed(database, { count, reset, onProgress }),
    );
    const tookSeconds = ((performance.now() - startedAtMs) / 1_000).toFixed(2);
    const outcome = count === 0
      ? "the schema is up to date."
      : `${inserted} users inserted in ${tookSeconds} s; users 1 to ${count} exist.`;
    console.log(`${where}: ${outcome}`);
    return 0;
  } catch (error) {
    const text = error instanceof ConfigError
      ? error.message
      : `Cannot seed ${where}: ${messageOf(error)}${adviceTo(error)}`;
    console.error(text);
    return 1;
  }
}

function parseOptions(): { count: number; reset: boolean } {
  const { count: text, reset } = readOptions(COMMAND);
  const count = Number(text);
  if (!/^\d+$/.test(text) || count > COUNT_MAX) {
    misused(COMMAND, `Cannot seed ${text} users: --count takes 0 to ${COUNT_MAX}`);
  }
  return { count, reset };
}

/** Shows a progress bar while `run` works, if a person may be watching. */
async function withProgress<T>(
  total: number,
  run: (onProgress: (done: number) => void) => Promise<T>,
): Promise<T> {
  if (!Deno.stdout.isTerminal()) return await run(() => {});
  const { progress } = await import("@clack/prompts");
  const bar = progress({ max: total });
  let shown = 0;
  bar.start("Seeding users");
  try {
    const answer = await run((done) => {
      bar.advance(Math.max(0, done - shown), `${done} of ${total} users`);
      shown = done;
    });
    bar.stop(`${total} users`);
    return answer;
  } catch (error) {
    bar.error("Seeding failed");
    throw error;
  }
}

if (import.meta.main) Deno.exit(await runSeed(readEnvironment()));
