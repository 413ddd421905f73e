/**
 * Compares a share of the answers with Postgres: a test of the guarantee in production, like Meta's Polaris
 * ("Cache made consistent", 2022).
 *
 * @module
 */
import type { Cache, Clock, Timer } from "@lookaside/cache";
import { assertOptions, type Types } from "./options.ts";

/** Limit of audits at once; reads beyond it are not audited. */
const RUNNING_MAX = 16;

/** The parts of an {@linkcode Audit}. */
export interface AuditOptions {
  /** Share of the reads that are audited, 0 to 1. */
  readonly ratio: number;
  /** The longest time in which an invalidation must reach this process, with a margin. */
  readonly propagationMs: number;
  /** The cache to audit. */
  readonly cache: Pick<Cache, "get">;
  /** Reads a value as a load would. */
  readonly load: (key: string) => Promise<unknown>;
  /** Called with the key of a wrong answer. */
  readonly onStale: (key: string) => void;
  /** Called if an audit failed. */
  readonly onError: (error: unknown) => void;
  /** The clock. */
  readonly clock: Clock;
  /** A uniform random number in [0, 1). */
  readonly random: () => number;
}

const AUDIT: Types<keyof AuditOptions> = {
  ratio: "number",
  propagationMs: "number",
  cache: "object",
  load: "function",
  onStale: "function",
  onError: "function",
  clock: "object",
  random: "function",
};

/** The results of an {@linkcode Audit}. */
export interface AuditStats {
  /** Number of compared values. */
  readonly audited: number;
  /** Number of values that the cache should no longer have had. */
  readonly stale: number;
}

/**
 * Compares cached values with the database. A value counts as stale only if the row did not change from
 * `propagationMs` before until after the read: then nothing explains the difference.
 */
export class Audit implements AsyncDisposable {
  readonly #options: AuditOptions;
  readonly #running = new Set<Promise<void>>();
  readonly #timers = new Map<Timer, () => void>();
  #audited = 0;
  #stale = 0;
  #closed = false;

  /** Audits nothing before reads are noted. */
  constructor(options: AuditOptions) {
    assertOptions(options, AUDIT);
    this.#options = options;
  }

  /** Notes a read. One in `1 / ratio` is audited in the background. */
  note(key: string): void {
    if (this.#options.random() >= this.#options.ratio) return;
    if (this.#closed || this.#running.size >= RUNNING_MAX) return;
    const audit = this.#audit(key).catch(this.#options.onError).finally(() => {
      this.#running.delete(audit);
    });
    this.#running.add(audit);
  }

  /** The results so far. */
  stats(): AuditStats {
    return { audited: this.#audited, stale: this.#stale };
  }

  /** Drops waiting audits, and ends. */
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
    if (before !== after) return; // it is being written, so both may be right
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
