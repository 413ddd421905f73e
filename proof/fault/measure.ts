/**
 * Evaluates samples: quantiles, pauses, and the time until everything works again.
 *
 * @module
 */
import type { Sample } from "./traffic.ts";

/** The failures that a fault may cause. */
export type Tolerance =
  /** Every request is answered as usual. */
  | "nothing"
  /** 503 with `Retry-After`. */
  | "503"
  /** No answer from the first instance, which was killed. */
  | "first instance";

/** The results of requests. */
export interface Figures {
  readonly requests: number;
  /** Answers of 500 and above. */
  readonly serverErrors: number;
  /** Those with 503 and `Retry-After`. */
  readonly refused: number;
  readonly unanswered: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly slowestMs: number;
  /** The longest time without a successful answer. */
  readonly pauseMs: number;
}

/** Precision of the time of recovery. */
const BUCKET_MS = 100;
/** Number of consecutive buckets in which nothing may fail. */
const WELL_BUCKETS = 5;
/** Share of the usual hits that they must have together. */
const HITS_SHARE = 0.9;

/** Sums samples up. */
export function figuresOf(samples: readonly Sample[]): Figures {
  const latencies = samples.map(({ startMs, endMs }) => endMs - startMs).sort((a, b) => a - b);
  const errors = samples.filter(({ status }) => status >= 500);
  return {
    requests: samples.length,
    serverErrors: errors.length,
    refused: errors.filter(({ status, retryAfter }) => status === 503 && retryAfter).length,
    unanswered: samples.filter(({ status }) => status === 0).length,
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
    slowestMs: latencies.at(-1) ?? 0,
    pauseMs: longestPause(samples),
  };
}

/** The samples whose requests began within `[startMs, endMs)`. */
export function begunWithin(
  samples: readonly Sample[],
  startMs: number,
  endMs: number,
): readonly Sample[] {
  return samples.filter((sample) => sample.startMs >= startMs && sample.startMs < endMs);
}

/** True if a fault may cause this answer. */
export function isTolerated(sample: Sample, tolerance: Tolerance): boolean {
  const { status, at, retryAfter } = sample;
  if (status === 200) return true;
  if (tolerance === "503") return status === 503 && retryAfter;
  return tolerance === "first instance" && status === 0 && at === 0;
}

/** The share of user reads that the cache answered. */
export function hitRatio(samples: readonly Sample[]): number {
  const reads = samples.filter(({ path }) => path !== undefined && path !== "page");
  if (reads.length === 0) return 0;
  return reads.filter(({ path }) => path === "memory" || path === "redis").length / reads.length;
}

/**
 * The time after `healedMs` until everything is as in the steady state: requests are answered, with as many
 * hits. `undefined`: not yet.
 */
export function recoveryMs(
  samples: readonly Sample[],
  healedMs: number,
  steady: { readonly hits: number },
): number | undefined {
  const buckets: Sample[][] = [];
  for (const sample of samples) {
    if (sample.startMs < healedMs) continue;
    const at = Math.floor((sample.startMs - healedMs) / BUCKET_MS);
    (buckets[at] ??= []).push(sample);
  }
  // An empty bucket proves nothing: there were no requests, or they still wait.
  const asked = [...buckets.entries()].filter(([, bucket]) => bucket !== undefined);
  for (let i = 0; i + WELL_BUCKETS <= asked.length; i++) {
    const window = asked.slice(i, i + WELL_BUCKETS).flatMap(([, bucket]) => bucket);
    const failed = window.some(({ status }) => status !== 200);
    if (!failed && hitRatio(window) >= HITS_SHARE * steady.hits) {
      return (asked[i]?.[0] ?? 0) * BUCKET_MS;
    }
  }
  return undefined;
}

function longestPause(samples: readonly Sample[]): number {
  const ends = samples.filter(({ status }) => status === 200).map(({ endMs }) => endMs)
    .sort((a, b) => a - b);
  let longest = 0;
  for (let i = 1; i < ends.length; i++) {
    longest = Math.max(longest, (ends[i] ?? 0) - (ends[i - 1] ?? 0));
  }
  return longest;
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}
