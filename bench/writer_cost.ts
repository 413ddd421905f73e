// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task bench:writer`: what the change feed costs a writer. The same UPDATEs on a table that is
 * watched and on one that is not, in turn; every round's ratio, and their median.
 *
 * @module
 */
import postgres from "postgres";

const ROUNDS = 7;
const SINGLE_UPDATES = 1_000;
const MANY_ROUNDS = 3;
const MANY_ROWS = 1_000_000;
const DATABASE = "lookaside_bench_writer";

const serverUrl = new URL(
  Deno.env.get("DATABASE_URL") ?? "postgres://postgres@127.0.0.1:5432/postgres",
);
const admin = postgres(serverUrl.href, { max: 1, onnotice: () => undefined });
await admin.unsafe(`DROP DATABASE IF EXISTS ${DATABASE}`);
await admin.unsafe(`CREATE DATABASE ${DATABASE}`);
serverUrl.pathname = `/${DATABASE}`;
const sql = postgres(serverUrl.href, { max: 1, onnotice: () => undefined });

try {
  await migrate();
  await sql`CREATE TABLE unwatched (LIKE users INCLUDING ALL)`;
  for (const table of ["users", "unwatched"]) {
    await sql.unsafe(
      `INSERT INTO ${table} (name, email, bio)
       SELECT 'User ' || i, 'user' || i || '@example.com', 'This is the bio for user ' || i
       FROM generate_series(1, ${SINGLE_UPDATES}) AS i`,
    );
  }
  await sql.unsafe("ANALYZE");
  await compare(
    `UPDATE of one row, ${SINGLE_UPDATES} in a row, per UPDATE`,
    ROUNDS,
    async (table) => {
      for (let id = 1; id <= SINGLE_UPDATES; id++) {
        await sql.unsafe(`UPDATE ${table} SET name = $2 WHERE id = $1`, [id, "N"], {
          prepare: true,
        });
      }
    },
    SINGLE_UPDATES,
  );
  for (const table of ["users", "unwatched"]) {
    await sql.unsafe(
      `INSERT INTO ${table} (name) SELECT 'x' FROM generate_series(1, ${MANY_ROWS})`,
    );
  }
  await compare(`UPDATE of ${MANY_ROWS} rows in one statement`, MANY_ROUNDS, async (table) => {
    await sql.unsafe(`UPDATE ${table} SET name = 'y'`);
    await sql.unsafe(`VACUUM ${table}`);
  }, 1);
} finally {
  await sql.end();
  await admin.unsafe(`DROP DATABASE ${DATABASE} WITH (FORCE)`);
  await admin.end();
}

async function migrate(): Promise<void> {
  const folder = new URL("../db/migrations/", import.meta.url);
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  for (const name of names) await sql.unsafe(await Deno.readTextFile(new URL(name, folder)));
}

async function compare(
  title: string,
  rounds: number,
  write: (table: string) => Promise<void>,
  per: number,
): Promise<void> {
  const times: Record<string, number[]> = { users: [], unwatched: [] };
  for (let round = 0; round < rounds; round++) {
    const tables = round % 2 === 0 ? ["users", "unwatched"] : ["unwatched", "users"];
    for (const table of tables) {
      const startedAtMs = performance.now();
      await write(table);
      times[table]?.push((performance.now() - startedAtMs) / per);
    }
  }
  const { users = [], unwatched = [] } = times;
  const ratios = users.map((time, i) => time / (unwatched[i] ?? NaN));
  console.log(
    `${title}: ${median(users).toFixed(3)} ms watched, ${median(unwatched).toFixed(3)} ms not, ` +
      `ratio ${median(ratios).toFixed(2)}`,
  );
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}
