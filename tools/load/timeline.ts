/**
 * A service under a steady load, second by second.
 *
 * @module
 */
import { z } from "zod";
import { sendThroughout, type SteadyLoad, type Target } from "./http_load.ts";

/** Time of one point: autocannon keeps a rate by the second, not within it. */
const SAMPLE_MS = 1_000;

const COUNTERS_TIMEOUT_MS = 2_000;

/** One point of the load as its clients saw it. */
export interface Sample {
  /** The middle of its time, in seconds from the start. */
  readonly atS: number;
  /** Successful answers per second. */
  readonly answered: number;
  /** Requests per second without an answer, or with one that was no success. */
  readonly failed: number;
  /** Median time to a successful answer; absent if there was none. */
  readonly p50Ms?: number;
  /** Its 99th percentile. */
  readonly p99Ms?: number;
}

/** One point of the service's counters. */
export interface Counted {
  /** The middle of its time, in seconds from the start. */
  readonly atS: number;
  /** Reads answered from memory, per second. */
  readonly memory: number;
  /** Reads answered from Redis, per second. */
  readonly redis: number;
  /** Reads that asked the database, per second. */
  readonly loads: number;
}

/** The course of one load. */
export interface Timeline {
  /** As its clients saw it. */
  readonly samples: readonly Sample[];
  /** As the service counted it. */
  readonly counted: readonly Counted[];
}

/** The part of `/cache/stats` that is read here. */
const Counters = z.object({
  loads: z.number(),
  memory: z.object({ hits: z.number() }),
  redis: z.object({ hits: z.number() }),
});

interface Reading {
  readonly atMs: number;
  readonly memory: number;
  readonly redis: number;
  readonly loads: number;
}

/** Puts a steady load on a service, and answers the outcome of its requests. */
export async function recordTimeline(
  target: Target,
  load: SteadyLoad,
  onProgress: (elapsedMs: number) => void,
): Promise<Timeline> {
  const startedAtMs = performance.now();
  const outcomes: Outcome[] = [];
  const over = new AbortController();
  const reading = readCounters(target, { startedAtMs, over: over.signal });
  await sendThroughout(target, load, (status, tookMs) => {
    const atMs = performance.now() - startedAtMs;
    outcomes.push({ atMs, tookMs, good: status >= 200 && status < 300 });
    onProgress(atMs);
  });
  over.abort();
  return {
    samples: samplesOf(outcomes, load.seconds),
    counted: ratesOf(await reading),
  };
}

/** The outcome of one request. */
export interface Outcome {
  /** The time of its answer. */
  readonly atMs: number;
  /** Its duration. */
  readonly tookMs: number;
  /** True for a success. */
  readonly good: boolean;
}

/** Gathers outcomes into points. A second without answers is a point too. */
export function samplesOf(outcomes: readonly Outcome[], seconds: number): Sample[] {
  const count = Math.floor(seconds * 1_000 / SAMPLE_MS);
  return Array.from({ length: count }, (_, index) => {
    const from = index * SAMPLE_MS;
    const within = outcomes.filter(({ atMs }) => atMs >= from && atMs < from + SAMPLE_MS);
    const times = within.filter(({ good }) => good).map(({ tookMs }) => tookMs)
      .sort((a, b) => a - b);
    const p50Ms = times[Math.floor(times.length * 0.5)];
    const p99Ms = times[Math.floor(times.length * 0.99)];
    return {
      atS: (from + SAMPLE_MS / 2) / 1_000,
      answered: times.length,
      failed: within.length - times.length,
      ...(p50Ms === undefined || p99Ms === undefined ? {} : { p50Ms, p99Ms }),
    };
  });
}

/**
 * Reads the counters in the middle of each second, when that second's requests have been sent. A failed reading
 * is left out: the next covers its time.
 */
async function readCounters(
  target: Target,
  { startedAtMs, over }: { startedAtMs: number; over: AbortSignal },
): Promise<Reading[]> {
  const readings: Reading[] = [];
  const first = await countersOf(target);
  if (first !== undefined) readings.push({ atMs: -SAMPLE_MS / 2, ...first });
  for (let atMs = SAMPLE_MS / 2;; atMs += SAMPLE_MS) {
    const waitMs = startedAtMs + atMs - performance.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    if (over.aborted) return readings;
    const found = await countersOf(target);
    if (found !== undefined) readings.push({ atMs, ...found });
  }
}

async function countersOf(target: Target): Promise<Omit<Reading, "atMs"> | undefined> {
  try {
    const response = await fetch(`${target.url}/cache/stats`, {
      headers: target.headers,
      signal: AbortSignal.timeout(COUNTERS_TIMEOUT_MS),
    });
    const { memory, redis, loads } = Counters.parse(await response.json());
    return { memory: memory.hits, redis: redis.hits, loads };
  } catch (_error) {
    // During a fault it may not answer.
    return undefined;
  }
}

function ratesOf(readings: readonly Reading[]): Counted[] {
  return readings.slice(1).flatMap((now, index) => {
    const before = readings[index];
    if (before === undefined) return [];
    const seconds = (now.atMs - before.atMs) / 1_000;
    return [{
      atS: (before.atMs + now.atMs) / 2_000,
      memory: (now.memory - before.memory) / seconds,
      redis: (now.redis - before.redis) / seconds,
      loads: (now.loads - before.loads) / seconds,
    }];
  });
}
