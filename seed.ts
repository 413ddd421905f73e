// deno-lint-ignore-file no-console -- a command talks to its terminal
/**
 * `deno task seed`: the schema and sample users.
 *
 * Creates the database if it is missing, migrates it, and makes sure that users 1 to `--count` (1,000)
 * exist. `--reset` removes all users first. Running it again changes nothing.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { connect } from "@db/driver";
import { readCa } from "./certificates.ts";
import { parseConfig, readEnvironment } from "./config.ts";
import type { Database } from "./db/database.ts";
import { ensureDatabase } from "./db/ensure_database.ts";
import { migrate } from "./db/migrate.ts";
import { type SeedOptions, seedUsers } from "./db/seed_users.ts";

/** Ids are 32-bit integers. */
const COUNT_MAX = 2 ** 31 - 1;
/** A migration may rewrite a table, and one seeder waits for another. */
const STATEMENT_TIMEOUT_MS = 600_000;

/**
 * Migrates `database` and makes sure that its sample users exist. Answers how many were inserted.
 *
 * @throws {DatabaseUnavailableError} Postgres cannot answer now.
 */
export async function seed(database: Database, options: SeedOptions = {}): Promise<number> {
  await migrate(database);
  return await seedUsers(database, options);
}

async function main(): Promise<void> {
  const { count, reset } = parseOptions(Deno.args);
  const { url, caFile } = parseConfig(readEnvironment()).database;
  const trusted = await readCa(caFile);
  const startedAtMs = performance.now();
  await ensureDatabase((options) => connect({ ...options, ...trusted }), url);
  await using database = connect({
    url,
    ...trusted,
    poolMax: 2,
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
  });
  const inserted = await withProgress(
    count,
    (onProgress) => seed(database, { count, reset, onProgress }),
  );
  const tookSeconds = ((performance.now() - startedAtMs) / 1_000).toFixed(2);
  console.log(`${inserted} users inserted in ${tookSeconds} s; users 1 to ${count} exist.`);
}

function parseOptions(args: string[]): { count: number; reset: boolean } {
  const { values } = parseArgs({
    args,
    options: {
      count: { type: "string", default: "1000" },
      reset: { type: "boolean", default: false },
    },
  });
  const count = Number(values.count);
  if (!Number.isInteger(count) || count < 1 || count > COUNT_MAX) {
    throw new RangeError(`Cannot seed ${values.count} users: --count takes 1 to ${COUNT_MAX}`);
  }
  return { count, reset: values.reset };
}

/** Shows a bar while `run` works, where a person may be watching. */
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

/** What went wrong, and why, in one line for a person at a terminal. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message}: ${messageOf(error.cause)}`;
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    console.error(messageOf(error));
    Deno.exit(1);
  }
}
