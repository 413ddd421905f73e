/**
 * A long run with a fault at regular intervals: does the service stay the same size?
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { randomOf } from "../consistency/nemesis.ts";
import { liveHeapBytes } from "../../tests/support/inspector.ts";
import { type Fault, startDefaultWorld } from "./fault.ts";
import { isTolerated, type Tolerance } from "./measure.ts";
import { countLost } from "./row.ts";
import { FAULTS } from "./table.ts";
import { type Sample, startTraffic, type Traffic } from "./traffic.ts";
import {
  type Instance,
  startStandalone,
  startTwoInspected,
  startWorld,
  type World,
} from "./world.ts";

/** The length, seed and pace of a run. */
export interface SoakOptions {
  /** Duration after every fault has occurred once. */
  readonly durationMs: number;
  readonly seed: number;
  /** Interval between faults. Default 20,000. */
  readonly everyMs?: number;
  /** Duration of each fault. Default 3,000. */
  readonly faultMs?: number;
  /** The faults. Default: all that leave both instances alive. */
  readonly faults?: readonly Fault[];
  /** Called at the beginning of each fault, with the size just before. */
  readonly onFault?: (name: string, size: Size) => void;
}

/** The size of the instances just before a fault. */
export interface Size {
  readonly atMs: number;
  /** Sum of all instances. */
  readonly rssBytes: number;
  /** After a full garbage collection. */
  readonly liveHeapBytes: number;
  /** Open files, without the connections of clients, whose number depends on the clients. */
  readonly files: number;
}

/** The development of one figure. */
export interface Trend {
  readonly figure: "rssBytes" | "liveHeapBytes" | "files";
  readonly mean: number;
  /** Per hour: the median of the slopes between any two samples (Theil and Sen). */
  readonly perHour: number;
  /** Over the whole run, by that slope. */
  readonly growth: number;
  readonly flat: boolean;
}

/** The results of a run. */
export interface SoakReport {
  readonly seed: number;
  readonly sizes: readonly Size[];
  readonly trends: readonly Trend[];
  readonly faults: ReadonlyMap<string, number>;
  readonly requests: number;
  /** Failed answers that the current fault does not permit. */
  readonly unexcused: number;
  readonly staleReads: number;
  readonly lostWrites: number;
}

/** Growth that counts as none: memory is returned to the system only from time to time. */
const GROWTH_SHARE_MAX = 0.1;
const FILES_GROWTH_MAX = 4;
/** The state in `/proc/net/tcp`. */
const ESTABLISHED = "01";
/** Pause between the faults of the first round, which is not part of the curve. */
const FIRST_ROUND_REST_MS = 3_000;
const FIRST_ROUND_FAULT_MS = 1_500;

/** The faults that keep both instances and the tables in place. */
const SOAK_FAULTS: readonly Fault[] = FAULTS.filter(({ startWorld, tolerates, name }) =>
  startWorld === startDefaultWorld && tolerates !== "first instance" && !/disk full/.test(name)
);

/** Runs, and answers the results. */
export async function soak(options: SoakOptions): Promise<SoakReport> {
  const { durationMs, seed, everyMs = 20_000, faultMs = 3_000, onFault } = options;
  const faults = await possible(options.faults ?? SOAK_FAULTS);
  await using world = await startWorld({ backend: startStandalone, instances: startTwoInspected });
  await using traffic = startTraffic(world, seed);
  const random = randomOf(seed);
  const counts = new Map<string, number>();
  const tally = { requests: 0, unexcused: 0 };
  for (const fault of faults) {
    await once(fault, world, FIRST_ROUND_FAULT_MS);
    await delay(FIRST_ROUND_REST_MS);
    count(traffic, tally, fault.tolerates);
  }
  const sizes: Size[] = [];
  const startMs = performance.now();
  for (let bag: Fault[] = []; performance.now() - startMs < durationMs;) {
    if (bag.length === 0) bag = [...faults];
    const [fault] = bag.splice(Math.floor(random() * bag.length), 1);
    if (fault === undefined) break;
    const beganMs = performance.now();
    const size = await sizeOf(world, beganMs - startMs);
    sizes.push(size);
    onFault?.(fault.name, size);
    await once(fault, world, faultMs);
    counts.set(fault.name, (counts.get(fault.name) ?? 0) + 1);
    await delay(Math.max(0, everyMs - (performance.now() - beganMs)));
    count(traffic, tally, fault.tolerates);
  }
  sizes.push(await sizeOf(world, performance.now() - startMs));
  await traffic.stop();
  count(traffic, tally, "nothing");
  const staleReads = traffic.checker.violationsCount;
  const trends = (["rssBytes", "liveHeapBytes", "files"] as const).map((name) =>
    trendOf(name, sizes)
  );
  return {
    seed,
    sizes,
    trends,
    faults: counts,
    ...tally,
    staleReads,
    lostWrites: await countLost(world, traffic),
  };
}

/** The development of a figure over a run. */
export function trendOf(figure: Trend["figure"], sizes: readonly Size[]): Trend {
  const slopes = sizes.flatMap((a, i) =>
    sizes.slice(i + 1).map((b) => (b[figure] - a[figure]) / (b.atMs - a.atMs))
  ).sort((a, b) => a - b);
  const slope = slopes[Math.floor(slopes.length / 2)] ?? 0;
  const mean = sizes.reduce((sum, size) => sum + size[figure], 0) / sizes.length;
  const growth = slope * ((sizes.at(-1)?.atMs ?? 0) - (sizes[0]?.atMs ?? 0));
  const growthMax = figure === "files" ? FILES_GROWTH_MAX : GROWTH_SHARE_MAX * mean;
  return { figure, mean, perHour: slope * 3_600_000, growth, flat: growth <= growthMax };
}

/** The faults that this machine can have, found in a separate world. */
async function possible(faults: readonly Fault[]): Promise<Fault[]> {
  await using world = await startDefaultWorld();
  const found: Fault[] = [];
  for (const fault of faults) {
    const restore = await fault.prepare(world);
    if (typeof restore === "string") continue;
    await restore();
    found.push(fault);
  }
  return found;
}

async function once(fault: Fault, world: World, faultMs: number): Promise<void> {
  const restore = await fault.prepare(world);
  if (typeof restore === "string") throw new Error(`Cannot ${fault.name}: ${restore}`);
  const heal = await fault.start(world);
  try {
    await delay(faultMs);
  } finally {
    await heal();
    await restore();
  }
}

/** Removes the samples, so that they do not accumulate. */
function count(
  { samples }: Traffic,
  tally: { requests: number; unexcused: number },
  tolerates: Tolerance = "nothing",
): void {
  const taken: readonly Sample[] = samples.splice(0);
  tally.requests += taken.length;
  tally.unexcused += taken.filter((sample) => !isTolerated(sample, tolerates)).length;
}

async function sizeOf({ instances }: World, atMs: number): Promise<Size> {
  const each = await Promise.all(instances.map(sizeOfOne));
  const sum = (figure: "rssBytes" | "liveHeapBytes" | "files") =>
    each.reduce((total, size) => total + size[figure], 0);
  return {
    atMs,
    rssBytes: sum("rssBytes"),
    liveHeapBytes: sum("liveHeapBytes"),
    files: sum("files"),
  };
}

async function sizeOfOne(
  { target, service, inspectorPort }: Instance,
): Promise<Omit<Size, "atMs">> {
  if (service === undefined || inspectorPort === undefined) {
    throw new Error("Cannot measure an instance: it has no process that can be inspected");
  }
  const open = (await Array.fromAsync(Deno.readDir(`/proc/${service.pid}/fd`))).length;
  const files = open - await connectionsTo(service.port);
  const text = await (await target.fetch("/metrics")).text();
  const rss = /^lookaside_process_resident_memory_bytes ([0-9.e+]+)$/m.exec(text)?.[1];
  if (rss === undefined) throw new Error("Cannot find the resident memory among the metrics");
  return { files, rssBytes: Number(rss), liveHeapBytes: await liveHeapBytes(inspectorPort) };
}

/** Number of established connections to a port of this machine. */
async function connectionsTo(port: number): Promise<number> {
  const hexPort = port.toString(16).toUpperCase().padStart(4, "0");
  const connections = (await Deno.readTextFile("/proc/net/tcp")).split("\n");
  return connections.filter((line) => {
    const [, local, , state] = line.trim().split(/\s+/);
    return local?.endsWith(`:${hexPort}`) && state === ESTABLISHED;
  }).length;
}
