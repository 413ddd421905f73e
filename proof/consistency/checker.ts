/**
 * Decides for each read whether its answer was older than the contract permits.
 *
 * Every user's `bio` is a version that only grows, written by one writer at a time. A read that began at t must
 * not answer a version older than one whose write was acknowledged by t, less the lag that the contract permits
 * for the answer's path.
 *
 * @module
 */

/** The path of an answer, from `Cache-Status`. Pages are validated by tag versions held in memory. */
export type ReadPath = "memory" | "redis" | "database" | "page";

/** An acknowledged write. Times are milliseconds of one monotonic clock. */
export interface AcknowledgedWrite {
  readonly key: number;
  readonly version: number;
  /** `api`: with the invalidation applied. `pending`: without. `sql`: past the service. */
  readonly via: "api" | "pending" | "sql";
  /** The instance and its life: a restarted one counts as another. Empty for `sql`. */
  readonly instance: string;
  readonly startMs: number;
  readonly endMs: number;
}

export interface AnsweredRead {
  readonly key: number;
  readonly version: number;
  readonly path: ReadPath;
  readonly instance: string;
  readonly startMs: number;
  readonly endMs: number;
}

/** A read that the contract forbids. */
export interface Violation {
  readonly read: AnsweredRead;
  /** The write that it should have included. */
  readonly missed: AcknowledgedWrite;
  /** Time from the acknowledgement of that write to the beginning of the read. */
  readonly ageMs: number;
  /** The last writes and reads of the key, in the order of their ends. */
  readonly history: readonly (AcknowledgedWrite | AnsweredRead)[];
}

/** The age of the answers of one path. */
export interface Staleness {
  readonly reads: number;
  readonly stale: number;
  readonly worstMs: number;
}

/** Number of acknowledged writes and reads kept per key, for the history of a violation. */
const HISTORY_MAX = 60;
/** Number of violations that are kept; the rest are only counted. */
const VIOLATIONS_MAX = 20;

/** Checks reads as they end, so that a history of any length fits in memory. */
export class Checker {
  readonly #memoryLeaseMs: number;
  readonly #writes = new Map<number, AcknowledgedWrite[]>();
  readonly #history = new Map<number, (AcknowledgedWrite | AnsweredRead)[]>();
  readonly #staleness = new Map<string, { reads: number; stale: number; worstMs: number }>();
  readonly violations: Violation[] = [];
  violationsCount = 0;

  /** @param memoryLeaseMs The permitted lag of another instance's memory. */
  constructor(memoryLeaseMs: number) {
    this.#memoryLeaseMs = memoryLeaseMs;
  }

  /** Notes an acknowledged write. */
  write(write: AcknowledgedWrite): void {
    const writes = this.#writes.get(write.key) ?? [];
    writes.push(write);
    this.#writes.set(write.key, writes);
    this.#remember(write.key, write);
  }

  /** Notes a read, and checks it. Every write that ended before it began must have been noted. */
  read(read: AnsweredRead): void {
    this.#remember(read.key, read);
    const seen = this.#staleness.get(read.path) ?? { reads: 0, stale: 0, worstMs: 0 };
    this.#staleness.set(read.path, seen);
    seen.reads++;
    let worst: Violation | undefined;
    const writes = this.#writes.get(read.key) ?? [];
    // Versions grow with each write, so the first that is not newer ends the search.
    for (let i = writes.length - 1; i >= 0; i--) {
      const write = writes[i];
      if (write === undefined || write.version <= read.version) break;
      const ageMs = read.startMs - write.endMs;
      if (ageMs < 0) continue;
      seen.worstMs = Math.max(seen.worstMs, ageMs);
      if (ageMs >= this.#allowedMs(write, read)) {
        worst = { read, missed: write, ageMs, history: [] };
      }
      if (i === 0 || (writes[i - 1]?.version ?? 0) <= read.version) seen.stale++;
    }
    if (worst !== undefined) this.#report(worst);
  }

  /** The age of answers, by path. */
  staleness(): ReadonlyMap<string, Staleness> {
    return this.#staleness;
  }

  /** The newest acknowledged version of a key, 0 if there is none. */
  newest(key: number): number {
    return this.#writes.get(key)?.at(-1)?.version ?? 0;
  }

  /** The contract: the time after the acknowledgement for which an answer may miss the write. */
  #allowedMs(write: AcknowledgedWrite, read: AnsweredRead): number {
    // No limit: the writer does not wait for the relay. Checked only at the end of the run.
    if (write.via === "sql") return Infinity;
    if (write.instance === read.instance) return 0;
    if (write.via === "pending") return Infinity;
    return read.path === "redis" || read.path === "database" ? 0 : this.#memoryLeaseMs;
  }

  #report(violation: Violation): void {
    this.violationsCount++;
    if (this.violations.length >= VIOLATIONS_MAX) return;
    const history = [...this.#history.get(violation.read.key) ?? []];
    this.violations.push({ ...violation, history });
  }

  #remember(key: number, operation: AcknowledgedWrite | AnsweredRead): void {
    const history = this.#history.get(key) ?? [];
    history.push(operation);
    if (history.length > HISTORY_MAX) history.shift();
    this.#history.set(key, history);
  }
}
