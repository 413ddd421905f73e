// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task bench:backlog`: how long a relay takes over a backlog, and how much memory.
 *
 * A million rows that are open for a cache are relayed to a cache that takes them at once, so what is
 * measured is the relay and Postgres. Then the same rows are replayed, as after a restart of Redis.
 *
 * @module
 */
import { connect } from "../db/drivers/pg.ts";
import { ChangeFeed } from "../changes/relay.ts";
import { bringUpToDate } from "../db/bring_up_to_date.ts";
import { changesDatabase } from "../db/changes_database.ts";
import { misused, readOptions } from "../tools/command_line.ts";
import { startPostgres } from "../tools/servers/postgres_server.ts";

const ROWS = 1_000_000;
const MIB = 1024 ** 2;
const SAMPLE_MS = 20;

const COMMAND = {
  name: "deno task bench:backlog",
  help: `deno task bench:backlog [--rows NUMBER]

How long a relay takes over a backlog, and how much memory, on a Postgres that it starts.

  --rows NUMBER  how many rows have changed (${ROWS})`,
  options: { rows: { type: "string", default: String(ROWS) } },
} as const;

const rowsCount = Number(readOptions(COMMAND).rows);
if (!Number.isInteger(rowsCount) || rowsCount < 1) {
  misused(COMMAND, "Cannot measure: --rows takes a whole number from 1");
}

await using server = await startPostgres();
await using database = connect({ url: server.url, poolMax: 4, statementTimeoutMs: 60_000 });
await bringUpToDate(database);
/** By id, so that counting takes no memory that would be taken for the relay's. */
const seen = new Uint8Array(rowsCount + 1);
let changesMax = 0;
let resets = 0;
await using feed = new ChangeFeed(changesDatabase(database), {
  cacheName: "backlog",
  listen: false,
  apply: (changes) => {
    const changed = changes.flatMap((change) => change.keys ?? []);
    for (const id of changed) seen[Number(id)] = 1;
    changesMax = Math.max(changesMax, changed.length);
    return Promise.resolve();
  },
  reset: () => {
    resets++;
    return Promise.resolve();
  },
});
await feed.catchUp({ replay: false }); // registers: what follows is open for it
await database.query(
  `INSERT INTO lookaside.outbox (label, keys)
   SELECT 'users', ARRAY[i::TEXT] FROM generate_series(1, $1::INT) AS i`,
  [rowsCount],
);
await database.query("UPDATE lookaside.caches SET reset_at = reset_at - INTERVAL '1 hour'");
resets = 0;

const relayed = await measured(() => feed.catchUp({ replay: false }));
const seenCount = seen.reduce((sum, one) => sum + one, 0);
console.log(
  `${seenCount} of ${rowsCount} rows relayed in ${relayed.text}; ` +
    `at most ${changesMax} at once, ${(await feed.stats()).backlog} left`,
);
if (seenCount !== rowsCount) Deno.exit(1);
const replayed = await measured(() => feed.catchUp({ replay: true }));
console.log(`replayed in ${replayed.text}${resets > 0 ? ", by a reset" : ""}`);

/** Runs `work`, and tells its time and the most memory that the process took meanwhile. */
async function measured(work: () => Promise<void>): Promise<{ readonly text: string }> {
  const beforeBytes = Deno.memoryUsage().rss;
  let peakBytes = beforeBytes;
  const timer = setInterval(() => {
    peakBytes = Math.max(peakBytes, Deno.memoryUsage().rss);
  }, SAMPLE_MS);
  const startedAtMs = performance.now();
  await work();
  clearInterval(timer);
  const seconds = ((performance.now() - startedAtMs) / 1_000).toFixed(1);
  const mib = (bytes: number): string => (bytes / MIB).toFixed(0);
  return { text: `${seconds} s, ${mib(beforeBytes)} MiB before, ${mib(peakBytes)} MiB at most` };
}
