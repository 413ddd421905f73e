/**
 * What the memory tier keeps of a skewed trace that is crossed by scans, against a plain LRU that is
 * given the same bytes.
 *
 * @module
 */
import { LRUCache } from "lru-cache";
import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { Cache } from "../cache/mod.ts";
import { userOfKey } from "./users.ts";

const SEED = 20_251_122;
const KEYS_COUNT = 100_000;
/** Exponent of Zipf's law: the share of the k-th most wanted key falls as k ** -0.9. */
const SKEW = 0.9;
/** Every so many reads a scan reads as many keys in order, each once. */
const SCAN_EVERY = 20_000;
const SCAN_LENGTH = 5_000;
const MEMORY_BYTES = 4 * 1024 * 1024;
/** What the memory tier accounts for an entry besides its key and text. */
const ENTRY_OVERHEAD_BYTES = 800;

/** What one cache made of the trace. */
export interface TraceResult {
  /** The cache. */
  readonly name: string;
  /** Share of the reads that it answered from memory, 0 to 1. */
  readonly hitRatio: number;
  /** What it held at the end. */
  readonly entries: number;
  /** What that is accounted for. */
  readonly bytes: number;
}

/** Replays a trace of `reads` reads, the same in every run. */
export async function traceResults(redisUrl: string, reads: number): Promise<TraceResult[]> {
  const trace = [...traceOf(reads)];
  return [
    plainLru(trace),
    await lookaside("lookaside, memory alone", trace, "memory:"),
    await lookaside("lookaside, memory over Redis", trace, redisUrl),
  ];
}

function* traceOf(reads: number): Generator<string> {
  const random = xoroshiro128plus(SEED);
  const shares = Float64Array.from({ length: KEYS_COUNT }, (_, rank) => (rank + 1) ** -SKEW);
  const total = shares.reduce((sum, share) => sum + share, 0);
  let below = 0;
  const cumulative = shares.map((share) => below += share / total);
  for (let read = 0, scanFrom = 0; read < reads; read++) {
    if (read % SCAN_EVERY >= SCAN_EVERY - SCAN_LENGTH) {
      yield `user:${KEYS_COUNT + scanFrom++}`;
    } else {
      yield `user:${rankOf(cumulative, uniformFloat64(random)) + 1}`;
    }
  }
}

/** The first rank whose cumulative share reaches `share`, by bisection. */
function rankOf(cumulative: Float64Array, share: number): number {
  let low = 0;
  let high = cumulative.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((cumulative[middle] ?? 1) < share) low = middle + 1;
    else high = middle;
  }
  return low;
}

function plainLru(trace: readonly string[]): TraceResult {
  const lru = new LRUCache<string, string>({ maxSize: MEMORY_BYTES });
  let hits = 0;
  for (const key of trace) {
    if (lru.get(key) !== undefined) {
      hits++;
      continue;
    }
    const text = JSON.stringify(userOfKey(key));
    lru.set(key, text, { size: ENTRY_OVERHEAD_BYTES + key.length + text.length });
  }
  const { size: entries, calculatedSize: bytes } = lru;
  return { name: "plain LRU", hitRatio: hits / trace.length, entries, bytes };
}

async function lookaside(
  name: string,
  trace: readonly string[],
  url: string,
): Promise<TraceResult> {
  const prefix = `trace-${crypto.randomUUID()}`;
  await using cache = new Cache({ url, prefix, memoryBytes: MEMORY_BYTES, earlyRefreshBeta: 0 });
  while (!cache.stats().coherent) await new Promise((resolve) => setTimeout(resolve, 10));
  for (const key of trace) await cache.getOrLoad(key, () => Promise.resolve(userOfKey(key)));
  const { hits, entries, bytes } = cache.stats().memory;
  return { name, hitRatio: hits / trace.length, entries, bytes };
}
