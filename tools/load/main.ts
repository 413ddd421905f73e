// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task load`: measures the benefit of the cache on a running service.
 *
 * Four rows, each with and without the cache. The service at `--url` has the cache; a second one without it is
 * started here with the same configuration and `CACHE=off`. The cache is cleared. If the service has an
 * `ADMIN_TOKEN`, set the same one here.
 *
 * `--report FILE` also puts a steady load on both and writes a page with charts. `--kill-redis-at 10s`,
 * `--hang-redis-at` and `--stop-postgres-at` cause that fault in the middle of it, for five seconds, on a Redis
 * and a Postgres that are started here together with their services. `--url` is not used then.
 *
 * @module
 */
import { z } from "zod";
import { messageOf } from "../../server/message_of.ts";
import { ConfigError, parseConfig } from "../../server/config.ts";
import { eventually } from "../servers/eventually.ts";
import { freePort } from "../servers/free_port.ts";
import { ChildProcess } from "../child_process.ts";
import { definedOnly, type Environment, runningEnvironment } from "../environment.ts";
import {
  type Burst,
  medianOf,
  sendBurst,
  sendSteadily,
  type SteadyLoad,
  type Target,
} from "./http_load.ts";
import { FAULTS, OwnServers } from "./faults.ts";
import { type LoadOptions, loadOptions } from "./options.ts";
import { type LoadReport, loadReport } from "./report.ts";
import { recordTimeline, type Timeline } from "./timeline.ts";
import { permissionFlags } from "../permissions.ts";

const START_TIMEOUT_MS = 30_000;
const QUERY_COUNT = 100;
/** A burst is short, so it is repeated and the median counts. */
const ROUNDS = 5;
const CONNECTIONS = 10;
const RATE_PER_SECOND = 100;
const REPORT_RATE_PER_SECOND = 300;
/** Time for which a load continues after its fault, so that the recovery can be seen. */
const RECOVERY_SECONDS = 5;
const USERS_COUNT = 1_000;

/** One line of the table: the same work with and without the cache. */
type Row = LoadReport["rows"][number];

/** The services cannot be measured in their state. The message says why. */
class LoadError extends Error {
  override readonly name = "LoadError";
}

/** The part of `/cache/stats` that is read here. */
const Stats = z.object({ loads: z.number() });

async function load(options: LoadOptions): Promise<void> {
  const { fault, report } = options;
  if (report !== undefined) await checkIsWritable(report);
  await using resources = new AsyncDisposableStack();
  const servers = fault === undefined ? undefined : resources.use(await startServers());
  const env: Environment = servers === undefined
    ? await runningEnvironment()
    : { REDIS_URL: servers.redis.url, DATABASE_URL: servers.postgres.url };
  const headers = bearer(env.ADMIN_TOKEN);
  const own = async (cache: "on" | "off"): Promise<Target> => {
    const port = freePort();
    const service = { ...env, HOST: "127.0.0.1", PORT: String(port), CACHE: cache };
    resources.use(startService({ ...service, LOG_LEVEL: servers ? "fatal" : "warning" }));
    const target = { url: `http://127.0.0.1:${port}`, headers };
    await untilReady(target, START_TIMEOUT_MS);
    return target;
  };
  const cached = servers ? await own("on") : { url: options.url.replace(/\/$/, ""), headers };
  await untilReady(cached, 1_000);
  await loadsOf(cached);
  const uncached = await own("off");

  const rows: Row[] = [];
  for (const { name, unit, measure } of measurements(options.seconds)) {
    const withCache = await reported(`${name}, with the cache`, unit, () => measure(cached));
    const withoutCache = await reported(`${name}, without`, unit, () => measure(uncached));
    rows.push({ name, unit, withCache, withoutCache });
  }
  console.log(options.json ? JSON.stringify({ url: cached.url, rows }, null, 2) : table(rows));
  if (report === undefined) return;
  const during = <T>(work: () => Promise<T>) => servers ? servers.during(fault, work) : work();
  const seconds = reportSeconds(options);
  const timelines = {
    withCache: await during(() => timelineOf(cached, { seconds, label: "with the cache" })),
    withoutCache: await during(() => timelineOf(uncached, { seconds, label: "without" })),
  };
  await Deno.writeTextFile(report, loadReport({ ...timelines, ...reportFacts(options), rows }));
  finish(`Written: ${report}`);
}

/** Checked before the measurement, which would otherwise be lost. */
async function checkIsWritable(path: string): Promise<void> {
  try {
    (await Deno.open(path, { write: true, create: true })).close();
  } catch (error) {
    throw new LoadError(`Cannot write ${path}: ${messageOf(error)}`);
  }
}

/** Servers for this run only. */
async function startServers(): Promise<OwnServers> {
  try {
    return await OwnServers.start(USERS_COUNT);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new LoadError(
      "Cannot let a fault happen: redis-server, initdb and postgres must be on this machine",
    );
  }
}

function bearer(token: string | undefined): Readonly<Record<string, string>> {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** Long enough for the fault and the recovery. */
function reportSeconds({ seconds, fault }: LoadOptions): number {
  const faultEndsS = fault === undefined ? 0 : fault.atS + fault.forS + RECOVERY_SECONDS;
  return Math.max(seconds, faultEndsS);
}

function reportFacts(options: LoadOptions): Pick<LoadReport, "conditions" | "fault"> {
  const { fault } = options;
  const conditions = `${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC, ` +
    `${Deno.build.os} on ${navigator.hardwareConcurrency} cores, Deno ${Deno.version.deno}; ` +
    `${REPORT_RATE_PER_SECOND} reads a second of ${QUERY_COUNT} users, ` +
    `${reportSeconds(options)} s each, over ${CONNECTIONS} connections`;
  if (fault === undefined) return { conditions };
  const { begins, ends } = FAULTS[fault.name];
  return {
    conditions,
    fault: { begins, ends, fromS: fault.atS, toS: fault.atS + fault.forS },
  };
}

function timelineOf(
  target: Target,
  { seconds, label }: { seconds: number; label: string },
): Promise<Timeline> {
  return recordTimeline(
    target,
    steadyLoad(REPORT_RATE_PER_SECOND, seconds),
    (elapsedMs) => progress(`Steady load ${label}: ${Math.floor(elapsedMs / 1_000)} s`),
  );
}

interface Measurement {
  readonly name: string;
  readonly unit: string;
  readonly measure: (target: Target) => Promise<number>;
}

function measurements(seconds: number): Measurement[] {
  return [
    {
      name: "Single query",
      unit: "ms",
      measure: async (target) => {
        for (let round = 0; round < ROUNDS; round++) await burst(target, () => 1);
        const { medianMs } = await sendBurst(target, {
          connections: 1,
          paths: pathsOf(() => 1),
        });
        return medianMs;
      },
    },
    {
      name: `${QUERY_COUNT} queries, same key`,
      unit: "ms",
      measure: (target) => medianOfRounds(async () => (await burst(target, () => 1)).elapsedMs),
    },
    {
      name: `${QUERY_COUNT} queries, different keys (cold)`,
      unit: "ms",
      measure: (target) =>
        medianOfRounds(async () => {
          await clear(target);
          return (await burst(target, eachUser)).elapsedMs;
        }),
    },
    {
      name: `Database load at ${RATE_PER_SECOND} req/s`,
      unit: "loads/s",
      measure: async (target) => {
        const before = await loadsOf(target);
        const elapsedMs = await sendSteadily(
          target,
          steadyLoad(RATE_PER_SECOND, seconds),
          (answered) => progress(`${answered} requests`),
        );
        return (await loadsOf(target) - before) / (elapsedMs / 1_000);
      },
    },
  ];
}

/** Reads of users over all connections at once. */
function burst(target: Target, idAt: (index: number) => number): Promise<Burst> {
  return sendBurst(target, { connections: CONNECTIONS, paths: pathsOf(idAt) });
}

function steadyLoad(ratePerSecond: number, seconds: number): SteadyLoad {
  return { paths: pathsOf(eachUser), connections: CONNECTIONS, ratePerSecond, seconds };
}

function pathsOf(idAt: (index: number) => number): string[] {
  return Array.from({ length: QUERY_COUNT }, (_, index) => userPath(idAt(index)));
}

function eachUser(index: number): number {
  return index + 1;
}

async function medianOfRounds(measure: () => Promise<number>): Promise<number> {
  const values: number[] = [];
  for (let round = 0; round < ROUNDS; round++) values.push(await measure());
  return medianOf(values);
}

function userPath(id: number): string {
  return `/users/${id}`;
}

/** Number of loads from the database since the service started. */
async function loadsOf(target: Target): Promise<number> {
  const response = await fetch(`${target.url}/cache/stats`, { headers: target.headers });
  if (!response.ok) throw refusal(response, "read the statistics");
  return Stats.parse(await response.json()).loads;
}

async function clear(target: Target): Promise<void> {
  const response = await fetch(`${target.url}/cache`, {
    method: "DELETE",
    headers: target.headers,
  });
  await response.body?.cancel();
  if (!response.ok) throw refusal(response, "clear the cache");
}

function refusal({ url, status }: Response, wish: string): LoadError {
  const hint = status === 401 || status === 403 ? ". Set ADMIN_TOKEN to the service's" : "";
  return new LoadError(`Cannot ${wish}: ${url} answers ${status}${hint}`);
}

function startService(env: Environment): ChildProcess {
  const flags = permissionFlags(parseConfig(env));
  return ChildProcess.deno(
    ["run", "--allow-all", "tools/supervised.ts", Deno.execPath(), "run", ...flags, "main.ts"],
    // Its statistics are read, and its cache is cleared.
    { env: { ...definedOnly(env), ...(env.ADMIN_TOKEN ? {} : { ADMIN_OPEN: "loopback" }) } },
  );
}

/** Waits until users can be read; being alive does not suffice. */
async function untilReady(target: Target, timeoutMs: number): Promise<void> {
  const path = userPath(QUERY_COUNT);
  const read = async () => {
    const response = await fetch(target.url + path);
    await response.body?.cancel();
    if (response.ok) return;
    const hint = response.status === 404 ? ". `deno task seed` makes the users" : "";
    throw new Error(`GET ${path} answers ${response.status}${hint}`);
  };
  try {
    await eventually(read, { deadlineMs: timeoutMs, everyMs: 50 });
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error);
    const hint = error instanceof TypeError ? ". Is the service running?" : ""; // of fetch()
    throw new LoadError(`Cannot put load on ${target.url}: ${problem}${hint}`);
  }
}

/** Measures, and shows progress. */
async function reported(label: string, unit: string, run: () => Promise<number>): Promise<number> {
  progress(label);
  const value = await run();
  finish(`${label}: ${rounded(value)} ${unit}`);
  return value;
}

/** Overwrites the current line of a terminal. Elsewhere only whole lines are printed. */
function progress(text: string): void {
  if (Deno.stderr.isTerminal()) write(`\r\x1b[K${text}`);
}

function finish(text: string): void {
  write(Deno.stderr.isTerminal() ? `\r\x1b[K${text}\n` : `${text}\n`);
}

function write(text: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(text));
}

function rounded(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2);
}

/** The rows in columns of the necessary width. */
function table(rows: readonly Row[]): string {
  const lines = [["", "with cache", "without", "ratio"]];
  for (const { name, unit, withCache, withoutCache } of rows) {
    const ratio = withCache === 0 ? "none left" : `${rounded(withoutCache / withCache)}×`;
    lines.push([
      name,
      `${rounded(withCache)} ${unit}`,
      `${rounded(withoutCache)} ${unit}`,
      ratio,
    ]);
  }
  const widths = [0, 1, 2, 3].map((at) => Math.max(...lines.map((line) => line[at]?.length ?? 0)));
  return lines.map((line) =>
    line.map((cell, at) => at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0))
      .join("  ")
  ).join("\n");
}

async function main(): Promise<number> {
  const options = loadOptions(Deno.args);
  try {
    await load(options);
    return 0;
  } catch (error) {
    if (!(error instanceof LoadError || error instanceof ConfigError)) throw error;
    console.error(error.message);
    return 1;
  }
}

if (import.meta.main) Deno.exit(await main());
