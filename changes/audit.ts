/**
 * Asks Postgres, for a share of the answers, whether the cache was right: a test of the promise in
 * production, as Meta's Polaris is ("Cache made consistent", 2022).
 *
 * @module
 */
import type { Cache, Clock, Timer } from "@lookaside/cache";

/** Audits that run at once at the most; what is noted meanwhile is not audited. */
const RUNNING_MAX = 16;

/** The parts of an {@linkcode Audit}. */
export interface AuditOptions {
  /** Share of the reads that are audited, 0 to 1. */
  readonly ratio: number;
  /** How long an invalidation may take to reach this process by the contract, and some. */
  readonly propagationMs: number;
  /** The subject of an audit. */
  readonly cache: Pick<Cache, "get">;
  /** Reads a value as a load would. */
  readonly load: (key: string) => Promise<unknown>;
  /** Called with the key of an answer that was wrong. */
  readonly onStale: (key: string) => void;
  /** Called when an audit could not be made. */
  readonly onError: (error: unknown) => void;
  /** Time. */
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

/** The findings of an {@linkcode Audit}. */
export interface AuditStats {
  /** Values that were compared. */
  readonly audited: number;
  /** Values that the cache should not have had any more. */
  readonly stale: number;
}

/**
 * Compares cached values with the database. A value counts as stale only if the row did not change
 * from before the propagation bound until after the cache was asked: then nothing excuses a difference.
 */
export class Audit implements AsyncDisposable {
  readonly #options: AuditOptions;
  readonly #running = new Set<Promise<void>>();
  readonly #timers = new Map<Timer, () => void>();
  #audited = 0;
  #stale = 0;
  #closed = false;

  /** Audits nothing until reads are noted. */
  constructor(options: AuditOptions) {
    this.#options = options;
  }

  /** Notes a read. One in `1 / ratio` is audited behind it. */
  note(key: string): void {
    if (this.#options.random() >= this.#options.ratio) return;
    if (this.#closed || this.#running.size >= RUNNING_MAX) return;
    const audit = this.#audit(key).catch(this.#options.onError).finally(() => {
      this.#running.delete(audit);
    });
    this.#running.add(audit);
  }

  /** The findings so far. */
  stats(): AuditStats {
    return { audited: this.#audited, stale: this.#stale };
  }

  /** Gives up what is waiting, and ends. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const [timer, resolve] of this.#timers) {
      timer.cancel();
      resolve();
    }
    await Promise.all(this.#running);
  }

  async #audit(key: string): Promise<void> {
    const { cache, load, onStale } = this.#options;
    const before = JSON.stringify(await load(key) ?? null);
    await this.#untilPropagated();
    if (this.#closed) return;
    const cached = await cache.get(key);
    if (cached === undefined) return; // nothing is cached, so nothing can be wrong
    const after = JSON.stringify(await load(key) ?? null);
    if (before !== after) return; // it is being written: either answer may be right
    this.#audited++;
    if ((cached.text ?? "null") === after) return;
    this.#stale++;
    onStale(key);
  }

  async #untilPropagated(): Promise<void> {
    const { clock, propagationMs } = this.#options;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = clock.after(propagationMs, resolve);
    this.#timers.set(timer, resolve);
    await promise;
    this.#timers.delete(timer);
  }
}
