// deno-lint-ignore-file no-console -- a program that reports to its terminal
/**
 * Compares the load on the database during an outage of Redis with that of a service without a cache: 300 reads
 * a second of 1,000 users by Zipf's law, with Redis killed, stopped and cut off. Usage: `deno run -A
 * proof/fault/outage_main.ts [seconds]`, 15 by default. Exits with 0 if every outage causes at most 0.15 of the
 * statements, and every read was answered.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { createSeededDatabase } from "../../tests/support/seeded_database.ts";
import { startPostgres } from "../../tools/servers/postgres_server.ts";
import { type RedisServer, startRedis } from "../../tools/servers/redis_server.ts";
import { cacheInUse, type Service, startService } from "../../tools/servers/service.ts";
import { startTcpProxy, type TcpProxy } from "../../tools/servers/tcp_proxy.ts";

const USERS = 1_000;
const READS_PER_SECOND = 300;
const RATIO_MAX = 0.15;
/** Delay of Postgres's statistics. */
const STATISTICS_MS = 1_200;
const seconds = Number(Deno.args[0] ?? 15);

const OUTAGES: Readonly<Record<string, (redis: RedisServer, way: TcpProxy) => Promise<void>>> = {
  killed: (redis) => redis.kill(),
  stopped: (redis) => Promise.resolve(Deno.kill(redis.pid, "SIGSTOP")),
  "cut off": (_, way) => Promise.resolve(way.hang()),
};

await using server = await startPostgres();
const database = await createSeededDatabase(USERS, server.url);
const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
const userOf = zipf(USERS);
const settings = { DATABASE_URL: database.url, LOG_LEVEL: "error" };

const without = await measureWithout();
console.log(`CACHE=off: ${without.toFixed(0)} statements a second`);
for (const [name, begin] of Object.entries(OUTAGES)) {
  const { statements, failed } = await measureOutage(begin);
  const ratio = statements / without;
  console.log(
    `Redis ${name}: ${statements.toFixed(0)}, ratio ${ratio.toFixed(2)}, ${failed} reads failed`,
  );
  if (ratio > RATIO_MAX || failed > 0) Deno.exitCode = 1;
}
await sql.end();

async function measureWithout(): Promise<number> {
  await using service = await startService({ env: { ...settings, CACHE: "off" } });
  return (await measure(service)).statements;
}

async function measureOutage(
  begin: (redis: RedisServer, way: TcpProxy) => Promise<void>,
): Promise<{ readonly statements: number; readonly failed: number }> {
  await using redis = await startRedis();
  await using way = startTcpProxy(redis.port);
  const url = new URL(redis.serviceUrl);
  url.port = String(way.port);
  await using service = await startService({ env: { ...settings, REDIS_URL: url.href } });
  await cacheInUse(service);
  await read(service, seconds);
  await begin(redis, way);
  return await measure(service);
}

async function measure(
  service: Service,
): Promise<{ readonly statements: number; readonly failed: number }> {
  await delay(STATISTICS_MS);
  const [before, startedAtMs] = [await transactions(), performance.now()];
  const failed = await read(service, seconds);
  await delay(STATISTICS_MS);
  const took = (performance.now() - startedAtMs) / 1_000;
  return { statements: (await transactions() - before) / took, failed };
}

/** Reads at a fixed rate, however long answers take. Answers how many failed. */
async function read(service: Service, seconds: number): Promise<number> {
  const startedAtMs = performance.now();
  const answers: Promise<boolean>[] = [];
  for (let at = 0; at < seconds * READS_PER_SECOND; at++) {
    const dueMs = startedAtMs + at * 1_000 / READS_PER_SECOND - performance.now();
    if (dueMs > 0) await delay(dueMs);
    answers.push(
      service.fetch(`/users/${userOf()}`).then(async (response) => {
        await response.body?.cancel();
        return response.status === 200;
      }, () => false),
    );
  }
  return (await Promise.all(answers)).filter((answered) => !answered).length;
}

async function transactions(): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    SELECT (xact_commit + xact_rollback)::FLOAT8 AS count FROM pg_stat_database
    WHERE datname = current_database()`;
  return row?.count ?? NaN;
}

/** Draws from 1 to `count`; k is drawn 1/k as often as 1. */
function zipf(count: number): () => number {
  let sum = 0;
  const sums = Array.from({ length: count }, (_, at) => sum += 1 / (at + 1));
  return () => {
    const drawn = Math.random() * sum;
    return 1 + sums.findIndex((upTo) => upTo >= drawn);
  };
}
