/**
 * Sample users.
 *
 * @module
 */
import type { Database, Queryable, SqlValue } from "./database.ts";

const COLUMNS = ["id", "name", "email", "bio"];
/** Rows in one statement, if they are not streamed. */
const BATCH_SIZE = 5_000;
/** Number of rows from which streaming is worth its set-up. */
const COPY_COUNT_MIN = 10_000;

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
 * Many rows are streamed into an empty table by `COPY`; otherwise they are inserted in batches.
 *
 * @throws {DatabaseUnavailableError} Postgres is unavailable.
 */
export async function seedUsers(database: Database, options: SeedOptions = {}): Promise<number> {
  const count = options.count ?? 1_000;
  const onProgress = options.onProgress ?? (() => {});
  if (options.reset) await database.query("TRUNCATE users RESTART IDENTITY");
  const copied = count >= COPY_COUNT_MIN && await isEmpty(database) && await takesCopy(database)
    ? await tryCopy(database, count, onProgress)
    : 0;
  const inserted = copied || await insertMissing(database, count, onProgress);
  await advanceSequence(database);
  return inserted;
}

/** True if there is no user. */
export async function isEmpty(database: Queryable): Promise<boolean> {
  return (await database.query("SELECT 1 FROM users LIMIT 1")).length === 0;
}

/** Answers false for PGlite, which is Postgres compiled by Emscripten and hangs for ever at `COPY … FROM STDIN`. */
async function takesCopy(database: Queryable): Promise<boolean> {
  const [row] = await database.query<{ takes: boolean }>(
    "SELECT version() NOT LIKE '%emcc%' AS takes",
  );
  return row?.takes ?? false;
}

/** Answers 0 if Postgres refused. */
async function tryCopy(
  database: Database,
  count: number,
  onProgress: (done: number) => void,
): Promise<number> {
  function* rows(): Generator<readonly SqlValue[]> {
    for (let id = 1; id <= count; id++) {
      yield sampleUser(id);
      if (id % BATCH_SIZE === 0 || id === count) onProgress(id);
    }
  }
  try {
    return await database.copyFrom("users", COLUMNS, rows());
  } catch (_error) {
    // Rows of a concurrent seeder may conflict, which inserts then skip. Any other error occurs in the inserts
    // too, and is reported there.
    return 0;
  }
}

async function insertMissing(
  database: Queryable,
  count: number,
  onProgress: (done: number) => void,
): Promise<number> {
  let inserted = 0;
  for (let first = 1; first <= count; first += BATCH_SIZE) {
    const last = Math.min(first + BATCH_SIZE - 1, count);
    const users = Array.from({ length: last - first + 1 }, (_, index) => sampleUser(first + index));
    const rows = await database.query(
      `INSERT INTO users (id, name, email, bio)
       SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::text[])
       ON CONFLICT (id) DO NOTHING RETURNING 1`,
      [
        users.map(([id]) => id),
        users.map(([, name]) => name),
        users.map(([, , email]) => email),
        users.map(([, , , bio]) => bio),
      ],
    );
    inserted += rows.length;
    onProgress(last);
  }
  return inserted;
}

function sampleUser(id: number): [id: number, name: string, email: string, bio: string] {
  return [
    id,
    `User ${id}`,
    `user${id}@example.com`,
    `This is the bio for user ${id}. Lorem ipsum dolor sit amet, consectetur adipiscing elit.`,
  ];
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
