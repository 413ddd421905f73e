import type { Runtime, Timer } from "../runtime.ts";

/** Keys that are counted at once: the sketch holds at most twice as many. */
const COUNTERS = 1_000;
/** One read in about this many is counted. */
const SAMPLE_EVERY = 32;
const FLUSH_MS = 10_000;

/** How long until every shared count is halved: what was popular once gives way. */
const POPULAR_HALF_LIFE_MS = 60 * 60 * 1000;
/** How many shared counts are kept. */
const POPULAR_MAX = 1_000;

/** KEYS: counts, mark. ARGV: count, key, … One instance of many halves the counts, once in an hour. */
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

/** The counts that all processes share. */
export interface SharedCounts {
  /** Adds to the counts; they decay by half each hour. */
  addPopular(counts: readonly KeyCount[]): Promise<void>;
  /** Answers the most read keys, most read first. */
  readPopular(count: number): Promise<string[]>;
}

/**
 * Which keys are read most, counted on a sample of the reads in bounded memory.
 *
 * The sketch is that of Misra and Gries ("Finding repeated elements", 1982) with the batched
 * decrement of Anderson et al. (2017): count into up to 2k counters; when they are full, subtract the
 * (k+1)-th largest count from all and drop what falls to nothing. A key read more often than one
 * read in k is never lost. Counts go to the shared tier now and then, where they decay.
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

  /** Notes a read. One decrement, but for the reads that are counted. */
  note(key: string): void {
    if (--this.#untilSample <= 0) this.#count(key);
  }

  /** The most read keys, most read first: of every process, or of this one without shared counts. */
  async top(count: number): Promise<readonly string[]> {
    if (this.#shared === undefined) return sorted(this.#counts).slice(0, count).map(([key]) => key);
    await this.flush();
    return await this.#shared.readPopular(count);
  }

  /** Adds what was counted here to the shared counts. Never rejects: counts may be lost. */
  async flush(): Promise<void> {
    if (this.#shared === undefined || this.#counts.size === 0) return;
    const counts = sorted(this.#counts).slice(0, COUNTERS);
    this.#counts.clear();
    try {
      await this.#shared.addPopular(counts);
    } catch (_error) {
      // The store has reported it. A hint that is lost costs a slower start, nothing more.
    }
  }

  /** Stops flushing. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  /** Apart from the decrement, which is then small enough to be inlined into a memory hit. */
  #count(key: string): void {
    // A random stride of the same mean, so that a regular pattern of reads can't hide between.
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

/** Merges the most read keys of several servers. A server that cannot be asked tells none. */
export async function mostRead(
  servers: readonly { readonly popularity: Popularity }[],
  count: number,
): Promise<readonly string[]> {
  const tops = await Promise.allSettled(servers.map(({ popularity }) => popularity.top(count)));
  const keys = tops.map((top) => top.status === "fulfilled" ? top.value : []);
  // Keys are spread evenly, so keys of the same rank on their servers are about equally popular.
  const ranks = keys.flatMap((own) => own.map((key, rank) => ({ key, rank })));
  return ranks.sort((a, b) => a.rank - b.rank).slice(0, count).map(({ key }) => key);
}
