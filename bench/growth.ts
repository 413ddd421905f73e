// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task bench:growth`: what grows with feed connections, keys, tags, sizes of values and processes.
 * Writes `results/growth.json` and `results/growth.svg`. Figures are processor time, so that they say little
 * about how busy the machine is. `--quick` takes a minute and writes nothing.
 *
 * @module
 */
import { availableParallelism } from "node:os";
import process from "node:process";
import { setImmediate } from "node:timers/promises";
import { Cache, type CacheOptions } from "../cache/mod.ts";
import { readOptions } from "../tools/command_line.ts";
import { type RedisServer, startRedis } from "../tools/servers/redis_server.ts";
import { processorMs } from "./_processor_time.ts";
import { chartOf, figure } from "./chart.ts";
import { openFollowers } from "./growth_feed.ts";
import { processesPlan } from "./growth_processes.ts";
import { measure, type Plan, type Row } from "./row.ts";

const COMMAND = {
  name: "deno task bench:growth",
  help: `deno task bench:growth [--quick]

What grows with feed connections, keys, tags, sizes of values and processes. Writes
bench/results/growth.*. Uses the Postgres of DATABASE_URL, else that on 127.0.0.1:5432.

  --quick  a tenth of it, and writes nothing`,
  options: { quick: { type: "boolean", default: false } },
} as const;

const FOLLOWERS = [1, 8, 32, 128];
const IN_FLIGHT = 64;
/** More than a million entries of some hundred bytes take. */
const ROOMY_BYTES = 2_000_000_000;
const quick = readOptions(COMMAND).quick;
const [ROUNDS, READS, KEYS, TAGS] = quick
  ? [2, 20_000, [1_000, 10_000], 10_000]
  : [3, 200_000, [1_000, 100_000, 1_000_000], 100_000];
const SIZES = [200, 2_000, 50_000];

await using redis = await startRedis();
const rows: Row[] = [];
for (const plan of [feedPlan(redis, "broadcast"), feedPlan(redis, "by key")]) await add(plan);
for (const tier of ["memory", "redis"] as const) {
  await using caches = new AsyncDisposableStack();
  const open = async (name: string, fill: Fill): Promise<Contestant> => {
    const options: CacheOptions = tier === "memory"
      ? { url: redis.url, memoryBytes: ROOMY_BYTES, prefix: name.replaceAll(/\W/g, "") }
      : { url: redis.url, memoryBytes: 0, prefix: `r${name.replaceAll(/\W/g, "")}` };
    const cache = caches.use(new Cache({ ...options, ttlMs: 86_400_000 }));
    await filled(cache, fill, tier);
    return { name, cache, fill };
  };
  const title = tier === "memory" ? "Memory hit" : "Redis hit";
  const byKeys = [];
  for (const keys of KEYS) byKeys.push(await open(`${figure(keys)} keys`, { keys, bytes: 200 }));
  byKeys.push(
    await open(`${figure(TAGS)} keys, each its own tag`, { keys: TAGS, bytes: 200, tagged: true }),
  );
  await add(hitPlan(`${title}, by keys`, byKeys));
  const bySize = [];
  for (const bytes of SIZES) bySize.push(await open(`${figure(bytes)} B`, { keys: 1_000, bytes }));
  await add(hitPlan(`${title}, by size of value`, bySize));
}
for (const what of ["rate", "time"] as const) {
  const { plan, close } = await processesPlan(redis.url, { what, seconds: quick ? 1 : 3 });
  await add(plan).finally(close);
}
if (!quick) await write();

/** What a cache is filled with. */
interface Fill {
  readonly keys: number;
  readonly bytes: number;
  readonly tagged?: boolean;
}

interface Contestant {
  readonly name: string;
  readonly cache: Cache;
  readonly fill: Fill;
}

async function add(plan: Plan): Promise<void> {
  const row = await measure(plan, ROUNDS);
  rows.push(row);
  console.log(`\n${row.title} (${row.unit})`);
  for (const { name, median, rounds } of row.scores) {
    const spread = `${figure(Math.min(...rounds))} to ${figure(Math.max(...rounds))}`;
    console.log(`  ${name.padEnd(34)} ${figure(median).padStart(8)}  (${spread})`);
  }
}

/** Redis's own time per write, with followers of all keys or with followers that each hold the key. */
function feedPlan(server: RedisServer, mode: "broadcast" | "by key"): Plan {
  return {
    title: `Feed, Redis per write, ${mode}`,
    unit: "µs",
    contenders: FOLLOWERS.map((count) => ({
      name: count === 1 ? "1 connection" : `${count} connections`,
      measure: async () => {
        await using followers = await openFollowers(server.port, { count, mode });
        const writes = Math.ceil(READS / 10 / Math.sqrt(count));
        const before = processorMs(server.pid);
        await followers.write(writes);
        return 1_000 * (processorMs(server.pid) - before) / writes;
      },
    })),
    targets: [],
  };
}

/** This process's time per read, each a hit, of keys in turn. */
function hitPlan(title: string, contestants: readonly Contestant[]): Plan {
  return {
    title,
    unit: "µs",
    contenders: contestants.map(({ name, cache, fill }) => ({
      name,
      measure: async () => {
        const reads = Math.ceil(READS / Math.max(1, fill.bytes / 4_000));
        let at = 0;
        const before = process.cpuUsage();
        await Promise.all(Array.from({ length: IN_FLIGHT }, async () => {
          // A stride that is coprime to all counts, so that neighbours are not read together.
          while (at < reads) await cache.getOrLoad(keyOf(++at * 7_919 % fill.keys), missing);
        }));
        const { user, system } = process.cpuUsage(before);
        return (user + system) / reads;
      },
    })),
    targets: [],
  };
}

/**
 * Reads all keys again and again until the tier answers them. Pauses behind each few: reads from memory and loads that
 * resolve at once never wait, so the feed's sign of life would not be read, and Redis never be believed again.
 */
async function filled(cache: Cache, { keys, bytes, tagged }: Fill, tier: string): Promise<void> {
  const value = "x".repeat(bytes);
  for (let hits = 0; hits < keys * 0.99;) {
    hits = 0;
    for (let start = 0; start < keys; start += IN_FLIGHT) {
      const batch = Array.from({ length: Math.min(IN_FLIGHT, keys - start) }, (_, at) => {
        const options = tagged ? { tags: [`tag${start + at}`] } : {};
        return cache.getOrLoad(keyOf(start + at), () => Promise.resolve(value), options);
      });
      hits += (await Promise.all(batch)).filter(({ source }) => source === tier).length;
      await setImmediate();
    }
  }
}

function keyOf(at: number): string {
  return `key:${at}`;
}

function missing(): Promise<never> {
  return Promise.reject(new Error("Cannot measure hits: a read missed"));
}

async function write(): Promise<void> {
  const date = new Date().toISOString().slice(0, 10);
  const machine = `${availableParallelism()} cores`;
  const folder = new URL("results/", import.meta.url);
  const json = JSON.stringify({ date, machine, deno: Deno.version.deno, rows }, null, 2);
  await Deno.writeTextFile(new URL("growth.json", folder), `${json}\n`);
  const caption = `${date}, ${machine}, Deno ${Deno.version.deno}, processor time, medians`;
  await Deno.writeTextFile(
    new URL("growth.svg", folder),
    chartOf(rows, { title: "What grows with what", caption }),
  );
}
