/**
 * Decides, read by read, whether an answer was older than the contract allows.
 *
 * Every user's `bio` is a version that only grows, written by one writer at a time. A read that began at
 * t must not answer a version older than one whose write was acknowledged by t, less what the contract
 * allows for the path that the answer took.
 *
 * @module
 */

/** Which way an answer came, as `Cache-Status` tells. Pages are validated by tags held in memory. */
export type ReadPath = "memory" | "redis" | "database" | "page";

/** A write that was acknowledged. Times are milliseconds of one monotonic clock. */
export interface AcknowledgedWrite {
  readonly key: number;
  readonly version: number;
  /** `api`: with the invalidation applied. `pending`: without. `sql`: past the service. */
  readonly via: "api" | "pending" | "sql";
  /** The instance, and its life: a restarted one is another. Empty for `sql`. */
  readonly instance: string;
  readonly startMs: number;
  readonly endMs: number;
}

/** A read that was answered. */
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
  /** The write that it should have seen. */
  readonly missed: AcknowledgedWrite;
  /** How long before the read began that write had been acknowledged. */
  readonly ageMs: number;
  /** The last writes and reads of the key, in the order of their ends. */
  readonly history: readonly (AcknowledgedWrite | AnsweredRead)[];
}

/** How old the answers of one path were. */
export interface Staleness {
  readonly reads: number;
  readonly stale: number;
  readonly worstMs: number;
}

/** Acknowledged writes and reads that are kept per key, for the history of a violation. */
const HISTORY_MAX = 60;
/** Violations that are kept; the rest are counted. */
const VIOLATIONS_MAX = 20;

/** Checks reads as they end, so that a history of any length fits in memory. */
export class Checker {
  readonly #memoryLeaseMs: number;
  readonly #writes = new Map<number, AcknowledgedWrite[]>();
  readonly #history = new Map<number, (AcknowledgedWrite | AnsweredRead)[]>();
  readonly #staleness = new Map<string, { reads: number; stale: number; worstMs: number }>();
  readonly violations: Violation[] = [];
  violationsCount = 0;

  /** @param memoryLeaseMs How far another instance's memory may lag. */
  constructor(memoryLeaseMs: number) {
    this.#memoryLeaseMs = memoryLeaseMs;
  }

  /** Notes a write that was acknowledged. */
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
    // Versions grow from write to write, so the first that is not newer ends the search.
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

  /** How old answers were, by path. */
  staleness(): ReadonlyMap<string, Staleness> {
    return this.#staleness;
  }

  /** The newest version of a key that was acknowledged, 0 if none was. */
  newest(key: number): number {
    return this.#writes.get(key)?.at(-1)?.version ?? 0;
  }

  /** The contract: how long after the acknowledgement an answer may still miss the write. */
  #allowedMs(write: AcknowledgedWrite, read: AnsweredRead): number {
    // Nobody waits for the relay that applies it: bounded by the end of the run only.
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
