import { setTimeout as delay } from "node:timers/promises";
import type { Contender, Load } from "./contenders.ts";
import { ROWS_COUNT, type Table } from "./table.ts";

/** Interval at which some readers request the same row at once. */
const READS_EVERY_MS = 25;
const READERS = 4;
/** Interval at which the application writes a row. */
const WRITES_EVERY_MS = 250;
/** Delay of an answer of the database. */
const QUERY_MS = 15;
/** Time for which a write that bypasses the application may go unnoticed before an answer counts as stale. */
const NOTICED_WITHIN_MS = 1_000;
/** Limit of waiting reads of one cache; beyond it, readers give up. */
const READS_MAX = 64;

/** The results of the load so far. */
export interface Counts {
  /** Answers. */
  reads: number;
  /** Answers older than a write that the reader could know of. */
  stale: number;
  /** Queries to the database. */
  queries: number;
  /** Reads that failed, or were skipped because too many waited. */
  failed: number;
  /** Time of the last stale answer, by `performance.now()`. */
  lastStaleAtMs: number | undefined;
}

/** A cache under load. */
interface Runner {
  readonly counts: Counts;
  readonly contender: Contender;
  /** By row: the last acknowledged version. */
  readonly acknowledged: Map<number, number>;
  waiting: number;
}

/**
 * The same small load on several caches: the same readers request the same rows at the same time, and every
 * write is made once and told to each cache.
 */
export class Workload implements AsyncDisposable {
  readonly #table: Table;
  readonly #runners = new Map<string, Runner>();
  readonly #ended = new AbortController();
  #version = 0;
  #past = { version: 0, atMs: 0 };
  #writing: Promise<void> = Promise.resolve();
  #running: Promise<unknown> = Promise.resolve();

  constructor(table: Table) {
    this.#table = table;
  }

  /** Adds a cache, which gets the function that queries the database. */
  async add(name: string, open: (load: Load) => Contender | Promise<Contender>): Promise<void> {
    const counts = newCounts();
    const contender = await open(async (id) => {
      counts.queries++;
      const version = await this.#table.find(id);
      await delay(QUERY_MS, undefined, { signal: this.#ended.signal }).catch(() => undefined);
      return version;
    });
    this.#runners.set(name, { counts, contender, acknowledged: new Map(), waiting: 0 });
  }

  /** The results by cache. */
  counts(): ReadonlyMap<string, Readonly<Counts>> {
    return new Map([...this.#runners].map(([name, { counts }]) => [name, counts]));
  }

  /** Resets the counts. */
  reset(): void {
    for (const { counts } of this.#runners.values()) Object.assign(counts, newCounts());
  }

  /** Starts to read and to write. */
  start(): void {
    this.#running = Promise.all([
      this.#every(READS_EVERY_MS, () => this.#readAll()),
      this.#every(WRITES_EVERY_MS, () => void this.#writeAny()),
    ]);
  }

  /** Writes a row as the application does: commits, and tells each cache. */
  async write(id: number): Promise<void> {
    const version = await this.#inTurn((version) => this.#table.update(id, version));
    await Promise.all([...this.#runners.values()].map(async ({ contender, acknowledged }) => {
      await contender.wrote(id).catch(() => undefined); // a committed write is acknowledged in any case
      acknowledged.set(id, Math.max(version, acknowledged.get(id) ?? 0));
    }));
  }

  /** Writes all rows as psql does, without telling a cache. */
  async writePast(): Promise<void> {
    const version = await this.#inTurn((version) => this.#table.updateAll(version));
    this.#past = { version, atMs: performance.now() };
  }

  /** Ends the load, and closes the caches. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended.abort();
    await this.#running;
    await Promise.all(
      [...this.#runners.values()].map(({ contender }) => contender[Symbol.asyncDispose]()),
    );
  }

  async #writeAny(): Promise<void> {
    try {
      await this.write(1 + this.#random(ROWS_COUNT));
    } catch {
      // Nothing was committed, so no answer is too old because of it.
    }
  }

  #readAll(): void {
    const id = 1 + this.#random(ROWS_COUNT);
    for (const runner of this.#runners.values()) {
      for (let i = 0; i < READERS; i++) void this.#read(runner, id);
    }
  }

  async #read(runner: Runner, id: number): Promise<void> {
    const { counts, contender, acknowledged } = runner;
    if (runner.waiting >= READS_MAX) return void counts.failed++;
    runner.waiting++;
    const oldest = Math.max(acknowledged.get(id) ?? 0, this.#knownPast());
    try {
      const version = await contender.read(id);
      counts.reads++;
      if (version >= oldest) return;
      counts.stale++;
      counts.lastStaleAtMs = performance.now();
    } catch {
      counts.failed++;
    } finally {
      runner.waiting--;
    }
  }

  /** Writes the next version after all earlier ones, so that the highest version is the current one. */
  async #inTurn(update: (version: number) => Promise<void>): Promise<number> {
    const version = ++this.#version;
    const before = this.#writing;
    const writing = before.then(() => update(version));
    this.#writing = writing.catch(() => undefined); // the caller of this write gets the error
    await writing;
    return version;
  }

  #knownPast(): number {
    const { version, atMs } = this.#past;
    return performance.now() - atMs >= NOTICED_WITHIN_MS ? version : 0;
  }

  #random(below: number): number {
    return Math.floor(Math.random() * below);
  }

  async #every(periodMs: number, work: () => void): Promise<void> {
    const { signal } = this.#ended;
    while (!signal.aborted) {
      work();
      await delay(periodMs, undefined, { signal }).catch(() => undefined);
    }
  }
}

function newCounts(): Counts {
  return { reads: 0, stale: 0, queries: 0, failed: 0, lastStaleAtMs: undefined };
}
