/**
 * Sample users.
 *
 * @module
 */
import type { Database, Queryable } from "./database.ts";

/** Rows in one statement. */
const BATCH_SIZE = 10_000;

/** Options of {@linkcode seedUsers}. */
export interface SeedOptions {
  /** The wanted number of users, with ids 1 to `count`. Default 1,000. */
  readonly count?: number;
  /** True to remove every user first. Default false. */
  readonly reset?: boolean;
  /** Called from time to time with the number of users done, and at the end with all of them. */
  readonly onProgress?: (done: number) => void;
}

/**
 * Makes sure that the users 1 to `count` exist, and answers how many it inserted. Existing users stay as they
 * are, so a second run changes nothing. Ids of later users follow the highest one.
 *
 * @throws {DatabaseUnavailableError} Postgres is unavailable.
 */
export async function seedUsers(
  database: Database,
  { count = 1_000, reset = false, onProgress }: SeedOptions = {},
): Promise<number> {
  if (reset) await database.query("TRUNCATE users RESTART IDENTITY");
  let inserted = 0;
  for (let first = 1; first <= count; first += BATCH_SIZE) {
    const last = Math.min(first + BATCH_SIZE - 1, count);
    inserted += await insertMissing(database, first, last);
    onProgress?.(last);
  }
  await advanceSequence(database);
  return inserted;
}

/** True if there is no user. */
export async function isEmpty(database: Queryable): Promise<boolean> {
  return (await database.query("SELECT 1 FROM users LIMIT 1")).length === 0;
}

async function insertMissing(database: Queryable, first: number, last: number): Promise<number> {
  const [row] = await database.query<{ inserted: number }>(
    `WITH added AS (
       INSERT INTO users (id, name, email, bio)
       SELECT id, 'User ' || id, 'user' || id || '@example.com',
         'This is the bio for user ' || id || '. Lorem ipsum dolor sit amet, consectetur adipiscing elit.'
       FROM generate_series($1::int, $2::int) id
       ON CONFLICT (id) DO NOTHING RETURNING 1
     ) SELECT count(*)::int AS inserted FROM added`,
    [first, last],
  );
  return row?.inserted ?? 0;
}

/** Rows with explicit ids do not advance the sequence; without this the next INSERT would take id 1. */
async function advanceSequence(database: Queryable): Promise<void> {
  await database.query(`
    WITH ids AS (
      SELECT pg_get_serial_sequence('users', 'id')::regclass AS sequence, MAX(id) AS highest FROM users
    )
    SELECT setval(sequence, highest) FROM ids
    WHERE highest > COALESCE(pg_sequence_last_value(sequence), 0)`);
}
