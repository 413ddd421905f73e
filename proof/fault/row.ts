/**
 * One row of the table: a steady state, a fault, its end, and the results.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { versionOf } from "../consistency/workload.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import type { Fault } from "./fault.ts";
import {
  begunWithin,
  type Figures,
  figuresOf,
  hitRatio,
  isTolerated,
  recoveryMs,
} from "./measure.ts";
import { type Sample, startTraffic, type Traffic } from "./traffic.ts";
import {
  COMMAND_TIMEOUT_MS,
  queriesBound,
  startStandalone,
  startWorld,
  type World,
} from "./world.ts";

/** Durations of the phases. */
export interface Durations {
  /** The steady state before the fault. */
  readonly steadyMs: number;
  readonly faultMs: number;
}

/** The effects of a fault. */
export interface Row {
  readonly name: string;
  /** The reason why this machine cannot have the fault. All figures are then zero. */
  readonly impossible?: string;
  /** In the steady state before. */
  readonly steady: Figures;
  /** During the fault, and until everything works again. */
  readonly figures: Figures;
  /** Of the requests that began at least 200 ms into the fault, during it. */
  readonly settledP99Ms: number;
  /** The slowest of those that began after the breaker had had time to open. */
  readonly settledSlowestMs: number;
  /** Statements per second that Postgres got in the steady state, and during the fault. */
  readonly steadyQueriesPerSecond: number;
  readonly queriesPerSecond: number;
  /** The most statements that ran in Postgres at once. */
  readonly queriesRunningMax: number;
  /** Reads that the contract forbids. */
  readonly staleReads: number;
  readonly lostWrites: number;
  /** Time after the end of the fault; absent if it exceeds {@linkcode GIVE_UP_MS}. */
  readonly recoveredMs?: number;
  readonly remark?: string;
  /** Missed targets that do not depend on the speed of the machine. */
  readonly broken: readonly string[];
  /** Missed targets that depend on the speed of the machine. */
  readonly slow: readonly string[];
}

/** The latencies of a service that has no cache, under the same load. */
export type Baseline = Pick<Figures, "requests" | "p50Ms" | "p99Ms" | "slowestMs"> & {
  readonly queriesPerSecond: number;
};

/** Longest wait until everything works again. */
const GIVE_UP_MS = 20_000;
/** Longest permitted time until everything works again. */
const RECOVERY_MS_MAX = 2_000;

const WARM_UP_MS = 500;
const SETTLED_MS = 200;
/** Time after which the first time-outs are over and the breaker has opened. */
const BREAKER_OPEN_MS = 2 * COMMAND_TIMEOUT_MS + 100;
/** Permitted ratio of latencies without Redis to those of a service without a cache. */
const GONE_P99_RATIO = 3;

/** Measures a service without a cache. */
export async function measureBaseline({ steadyMs }: Durations): Promise<Baseline> {
  await using world = await startWorld({ backend: startStandalone, env: { CACHE: "off" } });
  await using traffic = startTraffic(world, 1);
  await delay(WARM_UP_MS);
  const startMs = performance.now();
  const { queries } = world.queries;
  await delay(steadyMs);
  const endMs = performance.now();
  const { requests, p50Ms, p99Ms, slowestMs } = figuresOf(
    begunWithin(traffic.samples, startMs, endMs),
  );
  const queriesPerSecond = perSecond(world.queries.queries - queries, endMs - startMs);
  return { requests, p50Ms, p99Ms, slowestMs, queriesPerSecond };
}

/** Measures a row. Afterwards the world is as before. */
export async function runRow(
  fault: Fault,
  world: World,
  { durations, baseline }: { readonly durations: Durations; readonly baseline?: Baseline },
): Promise<Row> {
  const restore = await fault.prepare(world);
  if (typeof restore === "string") return unmeasuredRow(fault.name, { impossible: restore });
  try {
    await using traffic = startTraffic(world, 1);
    const observed = await observe(fault, world, { traffic, durations });
    await traffic.stop();
    const lostWrites = await eventually(() => countLost(world, traffic));
    const row = rowOf(fault, traffic, { ...observed, lostWrites });
    return judge(row, fault, { baseline, bound: queriesBound(world), samples: traffic.samples });
  } finally {
    await restore();
  }
}

interface Observed {
  readonly steady: Figures;
  readonly startMs: number;
  /** The time at which the repair began; a cluster needs a while for it. */
  readonly healingMs: number;
  readonly healedMs: number;
  readonly recoveredMs: number | undefined;
  readonly steadyQueriesPerSecond: number;
  readonly queriesPerSecond: number;
  readonly queriesRunningMax: number;
  readonly remark: string | undefined;
}

/** A row with only the reason. */
export function unmeasuredRow(
  name: string,
  reason: { readonly impossible: string } | { readonly broken: readonly string[] },
): Row {
  return {
    name,
    steady: figuresOf([]),
    figures: figuresOf([]),
    settledP99Ms: 0,
    settledSlowestMs: 0,
    steadyQueriesPerSecond: 0,
    queriesPerSecond: 0,
    queriesRunningMax: 0,
    staleReads: 0,
    lostWrites: 0,
    broken: [],
    slow: [],
    ...reason,
  };
}

/** Causes the fault under load. */
async function observe(
  fault: Fault,
  world: World,
  { traffic, durations }: { readonly traffic: Traffic; readonly durations: Durations },
): Promise<Observed> {
  await cacheInUseByAll(world);
  await delay(WARM_UP_MS);
  const { queries } = world;
  const steadyStartMs = performance.now();
  const steadyQueries = queries.queries;
  await delay(durations.steadyMs);
  const startMs = performance.now();
  const before = queries.queries;
  const steady = begunWithin(traffic.samples, steadyStartMs, startMs);
  queries.resetMax();
  const heal = await fault.start(world);
  let remark: string | undefined;
  let healingMs = startMs;
  try {
    if (!fault.endsByItself) await delay(durations.faultMs);
    remark = await fault.remark?.(world);
  } finally {
    healingMs = performance.now();
    await heal();
  }
  const healedMs = performance.now();
  const during = queries.queries - before;
  const usual = { hits: hitRatio(steady) };
  const recovered = () => recoveryMs(traffic.samples, healedMs, usual);
  while (recovered() === undefined && performance.now() - healedMs < GIVE_UP_MS) await delay(50);
  return {
    steady: figuresOf(steady),
    startMs,
    healingMs,
    healedMs,
    remark,
    recoveredMs: recovered(),
    steadyQueriesPerSecond: perSecond(before - steadyQueries, startMs - steadyStartMs),
    queriesPerSecond: perSecond(during, healedMs - startMs),
    queriesRunningMax: queries.runningMax,
  };
}

function rowOf(
  { name }: Fault,
  { samples, checker }: Traffic,
  observed: Observed & { readonly lostWrites: number },
): Row {
  const { startMs, healingMs, healedMs, recoveredMs, remark, ...rest } = observed;
  const settled = figuresOf(begunWithin(samples, startMs + SETTLED_MS, healingMs));
  const open = figuresOf(begunWithin(samples, startMs + BREAKER_OPEN_MS, healingMs));
  return {
    name,
    figures: figuresOf(begunWithin(samples, startMs, healedMs + (recoveredMs ?? GIVE_UP_MS))),
    settledP99Ms: settled.p99Ms,
    settledSlowestMs: open.slowestMs,
    ...rest,
    staleReads: checker.violationsCount,
    ...(recoveredMs === undefined ? {} : { recoveredMs }),
    ...(remark === undefined ? {} : { remark }),
    broken: [],
    slow: [],
  };
}

/** Lists the missed targets. */
function judge(
  row: Row,
  fault: Fault,
  { baseline, bound, samples }: {
    readonly baseline: Baseline | undefined;
    readonly bound: number;
    readonly samples: readonly Sample[];
  },
): Row {
  const broken: string[] = [];
  const slow: string[] = [];
  const bad = samples.filter((sample) => !isTolerated(sample, fault.tolerates ?? "nothing"));
  const statuses = [...new Set(bad.map(({ status }) => status))].join(", ");
  if (bad.length > 0) broken.push(`${bad.length} requests answered ${statuses}`);
  if (row.staleReads > 0) broken.push(`${row.staleReads} stale reads`);
  if (row.lostWrites > 0) broken.push(`${row.lostWrites} acknowledged writes lost`);
  if (row.queriesRunningMax > bound) {
    broken.push(`${row.queriesRunningMax} statements at once, ${bound} may be`);
  }
  if (row.recoveredMs === undefined) broken.push(`not recovered within ${GIVE_UP_MS} ms`);
  else if (row.recoveredMs > RECOVERY_MS_MAX) slow.push(`recovered after ${row.recoveredMs} ms`);
  if (baseline !== undefined) {
    const p99MsMax = GONE_P99_RATIO * baseline.p99Ms;
    if (fault.redisGone && row.settledP99Ms > p99MsMax) {
      slow.push(`p99 ${row.settledP99Ms.toFixed(1)} ms, over ${p99MsMax.toFixed(1)} ms`);
    }
    // A request that probes waits for the command's time-out, and then for Postgres as without a cache.
    const slowestMsMax = COMMAND_TIMEOUT_MS + GONE_P99_RATIO * baseline.slowestMs;
    if (fault.redisHangs && row.settledSlowestMs > slowestMsMax) {
      slow.push(`slowest ${row.settledSlowestMs.toFixed(0)} ms with the breaker open`);
    }
  }
  return { ...row, broken, slow };
}

/** Acknowledged writes that Postgres does not have. */
export async function countLost({ sql }: World, { checker }: Traffic): Promise<number> {
  const rows = await sql<{ id: number; bio: string }[]>`SELECT id, bio FROM users`;
  return rows.filter(({ id, bio }) => versionOf(bio) < checker.newest(id)).length;
}

async function cacheInUseByAll({ instances }: World): Promise<void> {
  for (const { target } of instances) {
    await eventually(async () => {
      const response = await target.fetch("/users/1");
      const { source } = await response.json();
      if (source !== "cache") throw new Error(`Cannot use the cache: it came from ${source}`);
    }, { deadlineMs: 20_000 });
  }
}

function perSecond(count: number, durationMs: number): number {
  return count * 1_000 / durationMs;
}
