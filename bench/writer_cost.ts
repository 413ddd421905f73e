// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task bench:writer`: what the change feed costs writers, and what it costs besides.
 *
 * Writers update the watched table and an unwatched copy of it in turn: every round's ratio, and their
 * median. Then the service relays at several rates, and it is measured how long a commit takes to be
 * invalidated, and what a change costs. Starts a Postgres and a Redis of its own.
 *
 * @module
 */
import { Redis } from "ioredis";
import { connect } from "../db/drivers/pg.ts";
import { seed } from "../seed.ts";
import { readOptions } from "../tools/command_line.ts";
import { startPostgres } from "../tools/servers/postgres_server.ts";
import { startRedis } from "../tools/servers/redis_server.ts";
import { cacheInUse, type Service, startService } from "../tools/servers/service.ts";
import { processorMs, processorMsOf } from "./_processor_time.ts";
import { ROWS, update, type Updates } from "./_writer_load.ts";
import { interleave, ratioOf } from "./rounds.ts";

const SLICE_SECONDS = 2;
const ROUNDS: Readonly<Record<number, number>> = { 16: 4, 1: 3 };
const MANY_ROWS = 1_000_000;
const MANY_ROUNDS = 7;
const RATES = [0, 1, 100, 1_000, 3_000];
const RATE_SECONDS = 4;
/** Bursts of up to so many writers, with rests between them in which a relay goes to sleep or is about to. */
const BURSTS = 1_000;
const BURST_WRITERS_MAX = 16;
const BURST_REST_MS_MAX = 150;
/** The rows that only the probe writes. */
const PROBES = 50;
const PROBE_REST_MS = 20;
/** Statistics of Postgres are that late. */
const STATISTICS_MS = 1_500;
const UPDATE = "UPDATE users SET name = $1 WHERE id = $2";

const COMMAND = {
  name: "deno task bench:writer",
  help: `deno task bench:writer [--writers] [--many] [--rates] [--bursts]

What the change feed costs writers, and what it costs besides. Starts a Postgres and a Redis of its own.
Without an option, measures everything.

  --writers  only updates of single rows, by several writers and by one
  --many     only an update of a million rows
  --rates    only how long changes at several rates take until they are relayed
  --bursts   only bursts of writers`,
  options: {
    writers: { type: "boolean" },
    many: { type: "boolean" },
    rates: { type: "boolean" },
    bursts: { type: "boolean" },
  },
} as const;

const only = readOptions(COMMAND);
const all = !only.writers && !only.many && !only.rates && !only.bursts;

// As a server that may not lose what it has committed.
const settings = { fsync: "on", synchronous_commit: "on", full_page_writes: "on" };
await using server = await startPostgres({ settings: { ...settings, shared_buffers: "256MB" } });
await using redis = await startRedis();
const databaseUrl = server.urlOf("bench");
/** Under a name of its own: what the service's connections take is counted. */
const ownUrl = `${databaseUrl}?application_name=bench`;
const admin = connect({ url: server.url, poolMax: 1 });
await admin.query("CREATE DATABASE bench");
await admin.close();
await prepare();
const sql = connect({ url: ownUrl, poolMax: 1, statementTimeoutMs: 600_000 });

try {
  console.log(`load average ${Deno.loadavg().map((each) => each.toFixed(1)).join(" ")}`);
  if (all || only.many) await measureMany();
  if (all || only.writers) await measureWriters("nobody relays");
  if (all || only.writers || only.rates || only.bursts) {
    await using service = await startService({
      env: { DATABASE_URL: databaseUrl, REDIS_URL: redis.serviceUrl },
    });
    await cacheInUse(service);
    if (all || only.writers) await measureWriters("a service relays");
    if (all || only.rates) { for (const rate of RATES) await measureRate(service, rate); }
    if (all || only.bursts) await measureBursts(service);
  }
} finally {
  await sql.close();
}

async function prepare(): Promise<void> {
  await using database = connect({ url: databaseUrl, poolMax: 1, statementTimeoutMs: 600_000 });
  await seed(database, { count: ROWS + PROBES });
  await database.query("CREATE TABLE unwatched (LIKE users INCLUDING ALL)");
  await database.query("INSERT INTO unwatched SELECT * FROM users");
  await database.query("VACUUM ANALYZE");
}

/** Prints how much of their throughput writers keep. */
async function measureWriters(relaying: string): Promise<void> {
  for (const [count, rounds] of Object.entries(ROUNDS).toReversed()) {
    const clients = Number(count);
    const contender = (table: string) => ({
      name: table,
      measure: async () =>
        (await update(databaseUrl, { table, clients, seconds: SLICE_SECONDS })).perSecond,
    });
    const scores = await interleave([contender("users"), contender("unwatched")], rounds);
    const [watched, unwatched] = scores;
    if (watched === undefined || unwatched === undefined) throw new Error("Cannot compare");
    const ratios = watched.rounds.map((each, i) => each / (unwatched.rounds[i] ?? NaN));
    console.log(
      `${clients} writers, ${relaying}: ${watched.median.toFixed(0)} updates/s watched, ` +
        `${unwatched.median.toFixed(0)} unwatched, ratio ${
          ratioOf(watched, unwatched).toFixed(2)
        } ` +
        `(${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)})`,
    );
  }
}

/** Prints how much longer a statement takes that changes many rows, of the table and of the narrowest one. */
async function measureMany(): Promise<void> {
  await measureManyOf("as users", {
    columns: "LIKE users INCLUDING ALL",
    rows: `SELECT i, 'User ' || i, 'user' || i || '@example.com', bio, created_at
      FROM generate_series(1, ${MANY_ROWS}) i, (SELECT bio, created_at FROM users LIMIT 1) AS one`,
  });
  await measureManyOf("of two narrow columns", {
    columns: "id INT PRIMARY KEY, name TEXT",
    rows: `SELECT i, 'x' FROM generate_series(1, ${MANY_ROWS}) i`,
  });
}

async function measureManyOf(
  kind: string,
  { columns, rows }: { readonly columns: string; readonly rows: string },
): Promise<void> {
  for (const table of ["many", "many_unwatched"]) {
    await sql.query(`CREATE TABLE ${table} (${columns})`);
    await sql.query(`INSERT INTO ${table} ${rows}`);
  }
  await sql.query("SELECT lookaside.watch('many')");
  const contender = (table: string) => ({
    name: table,
    measure: async () => {
      await sql.query(`VACUUM ${table}`);
      await sql.query("CHECKPOINT");
      const startedAtMs = performance.now();
      await sql.query(`UPDATE ${table} SET name = 'y'`);
      return performance.now() - startedAtMs;
    },
  });
  const scores = await interleave([contender("many"), contender("many_unwatched")], MANY_ROUNDS);
  const [watched, unwatched] = scores;
  if (watched === undefined || unwatched === undefined) throw new Error("Cannot compare");
  await sql.query("DROP TABLE many, many_unwatched");
  console.log(
    `${MANY_ROWS} rows ${kind} in one statement: ${watched.median.toFixed(0)} ms watched, ` +
      `${unwatched.median.toFixed(0)} unwatched, ${ratioOf(watched, unwatched).toFixed(2)} times`,
  );
}

/** Figures that are counted from one moment to another. */
interface Counts {
  readonly transactions: number;
  readonly relay: number;
  readonly service: number;
  readonly redis: number;
}

async function counted(service: Service): Promise<Counts> {
  const [counts] = await sql.query<{ transactions: number; pids: number[] }>(`
    SELECT (xact_commit + xact_rollback)::FLOAT8 AS transactions, (
      SELECT array_agg(pid) FROM pg_stat_activity
      WHERE application_name = 'lookaside' AND datname = current_database()
    ) AS pids FROM pg_stat_database WHERE datname = current_database()`);
  return {
    transactions: counts?.transactions ?? NaN,
    relay: processorMsOf(counts?.pids ?? []),
    service: processorMs(service.pid),
    redis: processorMs(redis.pid),
  };
}

/** Prints what a change costs at a rate, and how late it is invalidated. */
async function measureRate(service: Service, rate: number): Promise<void> {
  await delay(STATISTICS_MS);
  const before = await counted(service);
  const { count: changes, perSecond } = await written(rate);
  const after = await counted(service);
  await delay(STATISTICS_MS);
  const { transactions } = await counted(service);
  const statements = transactions - before.transactions - changes - 2;
  const [per, unit] = changes === 0 ? [RATE_SECONDS, "second"] : [changes, "change"];
  const micros = (what: "relay" | "service" | "redis") =>
    ((after[what] - before[what]) * 1_000 / per).toFixed(0);
  console.log(
    `${rate} changes/s (${perSecond.toFixed(0)} reached), each ${unit}: ` +
      `${(statements / per).toFixed(2)} statements, processor µs of Postgres for the relay ` +
      `${micros("relay")}, service ${micros("service")}, Redis ${micros("redis")}`,
  );
  if (rate === 0) return;
  const ended = new AbortController();
  const probing = probe(service, rate === 1 ? 200 : PROBE_REST_MS, ended.signal);
  await written(rate === 1 ? 0 : rate);
  ended.abort();
  showLatencies(await probing);
}

/** Prints how late the last write of a burst is invalidated: a wake-up that is lost is a second late. */
async function measureBursts(service: Service): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const writers = stack.use(connect({ url: ownUrl, poolMax: BURST_WRITERS_MAX }));
  const store = stack.adopt(new Redis(redis.url), (each) => each.quit().then(() => undefined));
  const latenciesMs: number[] = [];
  for (let burst = 0; burst < BURSTS; burst++) {
    const id = ROWS + 1 + burst % PROBES;
    const cached = await filled(service, store, id);
    await delay(Math.random() * BURST_REST_MS_MAX);
    const others = Array.from(
      { length: Math.floor(Math.random() * BURST_WRITERS_MAX) },
      () => writers.query(UPDATE, ["x", 1 + Math.floor(Math.random() * ROWS)]),
    );
    await writers.query(UPDATE, [`Burst ${burst}`, id]);
    const startedAtMs = performance.now();
    while (await store.exists(cached) > 0) await delay(1);
    latenciesMs.push(performance.now() - startedAtMs);
    await Promise.all(others);
  }
  console.log(`${BURSTS} bursts of 1 to ${BURST_WRITERS_MAX} writers`);
  showLatencies(latenciesMs);
}

function showLatencies(unsorted: readonly number[]): void {
  const latenciesMs = unsorted.toSorted((a, b) => a - b);
  const at = (share: number) =>
    (latenciesMs[Math.min(Math.floor(latenciesMs.length * share), latenciesMs.length - 1)] ?? NaN)
      .toFixed(0);
  console.log(
    `  invalidated after ${at(0.5)} ms, p99 ${at(0.99)}, worst ${at(1)} of ${latenciesMs.length}`,
  );
}

/** Writes at a rate for a while. */
async function written(rate: number): Promise<Updates> {
  if (rate > 0) {
    const clients = Math.min(rate, 16);
    const seconds = rate === 1 ? 3 * RATE_SECONDS : RATE_SECONDS;
    return await update(databaseUrl, { table: "users", clients, seconds, rate });
  }
  await delay(RATE_SECONDS * 1_000);
  return { count: 0, perSecond: 0 };
}

/** Writes rows that are cached, and answers how long each takes from the commit to be cached no more. */
async function probe(service: Service, restMs: number, signal: AbortSignal): Promise<number[]> {
  await using stack = new AsyncDisposableStack();
  const writer = stack.use(connect({ url: ownUrl, poolMax: 1 }));
  const store = stack.adopt(new Redis(redis.url), (each) => each.quit().then(() => undefined));
  const latenciesMs: number[] = [];
  for (let round = 0; !signal.aborted; round++) {
    const id = ROWS + 1 + round % PROBES;
    const cached = await filled(service, store, id);
    await writer.query(UPDATE, [`Round ${round}`, id]);
    const startedAtMs = performance.now();
    while (await store.exists(cached) > 0) await delay(1);
    latenciesMs.push(performance.now() - startedAtMs);
    await delay(restMs * (0.5 + Math.random()));
  }
  return latenciesMs;
}

/** Has a user cached, and answers the name of the entry in Redis. */
async function filled(service: Service, store: Redis, id: number): Promise<string> {
  for (;;) {
    await (await service.fetch(`/users/${id}`)).body?.cancel();
    const [name] = await store.keys(`*{users:${id}}`);
    if (name !== undefined) return name;
    await delay(1);
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
