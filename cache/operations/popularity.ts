import type { Runtime, Timer } from "../runtime.ts";

/** Number of counters; the sketch has at most twice as many. */
const COUNTERS = 1_000;
/** One read in about this many is counted. */
const SAMPLE_EVERY = 32;
const FLUSH_MS = 10_000;

/** Time until every shared count is halved, so that formerly popular keys give way. */
const POPULAR_HALF_LIFE_MS = 60 * 60 * 1000;
/** Number of shared counts that are kept. */
const POPULAR_MAX = 1_000;

/** KEYS: counts, mark. ARGV: count, key, … Once an hour, one of the instances halves the counts. */
export const POPULAR_LUA: string = `
if redis.call('SET', KEYS[2], 1, 'NX', 'PX', ${POPULAR_HALF_LIFE_MS}) then
  redis.call('ZUNIONSTORE', KEYS[1], 1, KEYS[1], 'WEIGHTS', 0.5)
end
for i = 1, #ARGV, 2 do redis.call('ZINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -${POPULAR_MAX + 1})
redis.call('PEXPIRE', KEYS[1], ${24 * POPULAR_HALF_LIFE_MS})
return 1
`;

/** A key and about how often it was read. */
export type KeyCount = readonly [key: string, count: number];

/** The counts shared by all processes. */
export interface SharedCounts {
  /** Adds to the counts; they decay by half each hour. */
  addPopular(counts: readonly KeyCount[]): Promise<void>;
  /** Answers the most read keys, most read first. */
  readPopular(count: number): Promise<string[]>;
}

/**
 * Finds the most read keys by counting a sample of the reads, in limited memory.
 *
 * The sketch is that of Misra and Gries ("Finding repeated elements", 1982) with the batched decrement of
 * Anderson et al. (2017): count into up to 2k counters; when they are full, subtract the (k+1)-th largest count
 * from all and drop those that reach 0. A key with more than one in k reads is never lost. Counts are regularly
 * added to those in the shared tier, which decay.
 */
export class Popularity {
  readonly #runtime: Runtime;
  readonly #shared: SharedCounts | undefined;
  readonly #track: (work: Promise<void>) => void;
  readonly #counts = new Map<string, number>();
  #untilSample = 1;
  #timer: Timer | undefined;
  #closed = false;

  constructor(
    runtime: Runtime,
    shared: SharedCounts | undefined,
    track: (work: Promise<void>) => void,
  ) {
    this.#runtime = runtime;
    this.#shared = shared;
    this.#track = track;
  }

  /** Notes a read. Only a decrement, unless this read is counted. */
  note(key: string): void {
    if (--this.#untilSample <= 0) this.#count(key);
  }

  /** The most read keys, most read first: of all processes, or of this one if there are no shared counts. */
  async top(count: number): Promise<readonly string[]> {
    if (this.#shared === undefined) return sorted(this.#counts).slice(0, count).map(([key]) => key);
    await this.flush();
    return await this.#shared.readPopular(count);
  }

  /** Adds the counts of this process to the shared counts. Never rejects: counts may be lost. */
  async flush(): Promise<void> {
    if (this.#shared === undefined || this.#counts.size === 0) return;
    const counts = sorted(this.#counts).slice(0, COUNTERS);
    this.#counts.clear();
    try {
      await this.#shared.addPopular(counts);
    } catch (_error) {
      // The store has reported the error. Lost counts only make warming less exact.
    }
  }

  /** Stops flushing. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  /** Separate from the decrement, which is thus small enough to be inlined into a memory hit. */
  #count(key: string): void {
    // A random stride with the same mean, so that a regular pattern of reads is sampled too.
    this.#untilSample = 1 + Math.floor(this.#runtime.random() * (2 * SAMPLE_EVERY - 1));
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    if (this.#counts.size >= 2 * COUNTERS) this.#shrink();
    if (this.#shared !== undefined && this.#timer === undefined && !this.#closed) {
      this.#timer = this.#runtime.clock.after(FLUSH_MS, () => {
        this.#timer = undefined;
        this.#track(this.flush());
      });
    }
  }

  #shrink(): void {
    const cut = sorted(this.#counts)[COUNTERS]?.[1] ?? 0;
    for (const [key, count] of this.#counts) {
      if (count <= cut) this.#counts.delete(key);
      else this.#counts.set(key, count - cut);
    }
  }
}

function sorted(counts: ReadonlyMap<string, number>): KeyCount[] {
  return [...counts].sort((a, b) => b[1] - a[1]);
}

/** Merges the most read keys of several servers. An unreachable server contributes none. */
export async function mostRead(
  servers: readonly { readonly popularity: Popularity }[],
  count: number,
): Promise<readonly string[]> {
  const tops = await Promise.allSettled(servers.map(({ popularity }) => popularity.top(count)));
  const keys = tops.map((top) => top.status === "fulfilled" ? top.value : []);
  // Keys are spread evenly, so those of equal rank on their servers are about equally popular.
  const ranks = keys.flatMap((own) => own.map((key, rank) => ({ key, rank })));
  return ranks.sort((a, b) => a.rank - b.rank).slice(0, count).map(({ key }) => key);
}
