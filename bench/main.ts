// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task bench`: everything in one run on one machine, written to `bench/results/`.
 *
 * Uses `DATABASE_URL`, else the Postgres on 127.0.0.1:5432, in a database that it makes, seeds
 * and drops; and a Redis that it starts. `--quick` takes a minute and writes nothing.
 *
 * @module
 */
import { availableParallelism } from "node:os";
import { readOptions } from "../tools/command_line.ts";
import { startRedis } from "../tools/servers/redis_server.ts";
import { chartOf, figure } from "./chart.ts";
import { type ModuleCost, moduleCost } from "./cost.ts";
import manifest from "./deno.json" with { type: "json" };
import { httpPlans } from "./http_hit.ts";
import { memoryHitPlan, type OpenPlan, primaryKeyPlan } from "./memory_hit.ts";
import { redisHitPlan } from "./redis_hit.ts";
import { measure, type Row } from "./row.ts";
import { seededDatabase } from "./seeded_database.ts";
import { type TraceResult, traceResults } from "./trace.ts";
import { STRANGERS_COUNT, USERS_COUNT } from "./users.ts";

/** How much is measured. */
interface Effort {
  readonly rounds: number;
  readonly memoryReads: number;
  readonly redisReads: number;
  readonly httpSeconds: number;
  readonly traceReads: number;
}

/** What is written. */
interface Results {
  readonly date: string;
  readonly machine: string;
  readonly deno: string;
  readonly loadGenerator: string;
  readonly peers: readonly string[];
  readonly rows: readonly Row[];
  readonly trace: readonly TraceResult[];
  readonly cost: ModuleCost;
}

const QUICK: Effort = {
  rounds: 3,
  memoryReads: 100_000,
  redisReads: 10_000,
  httpSeconds: 1,
  traceReads: 60_000,
};
const FULL: Effort = {
  rounds: 7,
  memoryReads: 300_000,
  redisReads: 60_000,
  httpSeconds: 3,
  traceReads: 400_000,
};

const COMMAND = {
  name: "deno task bench",
  help: `deno task bench [--quick]

The cache against its peers, in one run on this machine. Writes bench/results/. Uses the Postgres of
DATABASE_URL, else that on 127.0.0.1:5432, in a database that it makes and drops.

  --quick  takes a minute, and writes nothing`,
  options: { quick: { type: "boolean", default: false } },
} as const;

const folder = new URL("results/", import.meta.url);

await main();

async function main(): Promise<void> {
  const values = readOptions(COMMAND);
  const effort = values.quick ? QUICK : FULL;
  await using database = await seededDatabase(USERS_COUNT + STRANGERS_COUNT);
  const databaseUrl = database.url;
  await using redis = await startRedis();
  const rows: Row[] = [];
  const add = async (open: OpenPlan): Promise<void> => {
    try {
      rows.push(shown(await measure(open.plan, effort.rounds)));
    } finally {
      await open.close();
    }
  };
  const reads = { reads: effort.memoryReads, databaseUrl };
  await add(await memoryHitPlan(reads));
  await add(await redisHitPlan(redis.url, effort.redisReads));
  await add(await primaryKeyPlan(reads));
  await using http = await httpPlans({
    redisUrl: redis.url,
    databaseUrl,
    seconds: effort.httpSeconds,
  });
  for (const plan of http.plans) rows.push(shown(await measure(plan, effort.rounds)));
  const trace = await traceResults(redis.url, effort.traceReads);
  console.table(trace);
  const cost = await moduleCost();
  console.log(costLine(cost));
  const results: Results = {
    date: new Date().toISOString().slice(0, 10),
    machine: `${availableParallelism()} cores`,
    deno: Deno.version.deno,
    loadGenerator: http.generator,
    peers: Object.values(manifest.imports).filter((specifier) => !specifier.endsWith("/")),
    rows,
    trace,
    cost,
  };
  if (!values.quick) await write(results);
}

/** Prints a row, and passes it on. */
function shown(row: Row): Row {
  console.log(`\n${row.title} (${row.unit})`);
  for (const { name, median } of row.scores) {
    console.log(`  ${name.padEnd(32)} ${figure(median).padStart(10)}`);
  }
  for (const { of, against, ratio, atLeast, met } of row.outcomes) {
    const verdict = met ? "met   " : "MISSED";
    console.log(`  ${verdict} ${figure(ratio)} x ${against} (target ${atLeast}), ${of}`);
  }
  return row;
}

function costLine({ files, lines, packages }: ModuleCost): string {
  const kib = packages.reduce((sum, { kib }) => sum + kib, 0);
  const names = packages.map(({ name }) => name).join(", ");
  return `cache/: ${lines} lines of code in ${files} files; ${Math.round(kib)} KiB of ${names}`;
}

async function write(results: Results): Promise<void> {
  const caption = `${results.date}, ${results.machine}, Deno ${results.deno}, ` +
    "medians of interleaved rounds";
  await Deno.mkdir(folder, { recursive: true });
  const json = `${JSON.stringify(results, null, 2)}\n`;
  await Deno.writeTextFile(new URL("results.json", folder), json);
  const title = "Lookaside against its peers";
  await Deno.writeTextFile(
    new URL("results.svg", folder),
    chartOf(results.rows, { title, caption }),
  );
}
