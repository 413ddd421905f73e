/**
 * The last invalidations and their causes.
 *
 * @module
 */
import { type Clock, systemRuntime } from "../runtime.ts";

/** Number of invalidations that are kept. */
const KEPT_MAX = 12;
/** Number of keys and of tags that are listed for each; the rest are only counted. */
const NAMES_MAX = 5;

/** Names that were invalidated. */
export interface LoggedNames {
  /** Keys. */
  readonly keys?: readonly string[];
  /** Tags. */
  readonly tags?: readonly string[];
  /** True for all entries. */
  readonly everything?: boolean;
}

/** One invalidation. */
export interface LoggedInvalidation {
  /** Distinguishes it from others of this process. */
  readonly id: number;
  /** Wall time in milliseconds. */
  readonly atMs: number;
  /** The cause, as the program describes it. */
  readonly cause: string;
  /** Keys, or the first of them. */
  readonly keys: readonly string[];
  /** Number of keys. */
  readonly keyCount: number;
  /** Tags, or the first of them. */
  readonly tags: readonly string[];
  /** True if it was the whole cache. */
  readonly everything: boolean;
  /** True if Redis has not applied it yet. */
  readonly pending: boolean;
}

/**
 * Keeps the last invalidations of this process, in limited memory, for the table of a dashboard.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 * import { dashboard, InvalidationLog } from "@lookaside/cache/dashboard";
 *
 * const invalidations = new InvalidationLog();
 * await using cache = new Cache(); // with postgresChanges(pool, { onInvalidated: (names) => invalidations.note("change feed", names) })
 * dashboard(cache, { open: true, invalidations });
 *
 * await cache.delete("user:1");
 * invalidations.note("sign-out", { keys: ["user:1"] });
 * assert.equal(invalidations.recent()[0]?.cause, "sign-out");
 * ```
 */
export class InvalidationLog {
  readonly #clock: Clock;
  readonly #kept: LoggedInvalidation[] = [];
  #noted = 0;

  /** @param clock Default: the system's. */
  constructor(clock: Clock = systemRuntime.clock) {
    this.#clock = clock;
  }

  /** Records an invalidation. If it names nothing, nothing is recorded. */
  note(
    cause: string,
    { keys = [], tags = [], everything = false }: LoggedNames,
    { pending = false }: { readonly pending?: boolean } = {},
  ): void {
    if (keys.length === 0 && tags.length === 0 && !everything) return;
    this.#kept.unshift({
      id: this.#noted++,
      atMs: this.#clock.now(),
      cause,
      keys: keys.slice(0, NAMES_MAX),
      keyCount: keys.length,
      tags: tags.slice(0, NAMES_MAX),
      everything,
      pending,
    });
    if (this.#kept.length > KEPT_MAX) this.#kept.pop();
  }

  /** The last invalidations, latest first. */
  recent(): readonly LoggedInvalidation[] {
    return [...this.#kept];
  }
}
