/**
 * The last invalidations, and why they were.
 *
 * @module
 */
import type { Clock } from "../cache/mod.ts";

/** How many are kept. */
const KEPT_MAX = 12;
/** How many keys and tags of each are named; the rest are counted. */
const NAMES_MAX = 5;

/** Why something was invalidated: a write of this API, a change that was relayed, or a person. */
export type Cause = "write" | "change feed" | "admin";

/** What was invalidated. */
export interface InvalidatedNames {
  /** Keys of single entries. */
  readonly keys?: readonly string[];
  /** Tags. */
  readonly tags?: readonly string[];
  /** Everything. */
  readonly everything?: boolean;
}

/** One invalidation. */
export interface LoggedInvalidation {
  /** Tells it from the others of this process. */
  readonly id: number;
  /** When it was done, wall time in milliseconds. */
  readonly atMs: number;
  /** Why. */
  readonly cause: Cause;
  /** Keys, or the first of them. */
  readonly keys: readonly string[];
  /** How many keys there were. */
  readonly keyCount: number;
  /** Tags, or the first of them. */
  readonly tags: readonly string[];
  /** Whether it was the whole cache. */
  readonly everything: boolean;
  /** Whether Redis has yet to take it. */
  readonly pending: boolean;
}

/** Keeps the last invalidations of this process, in bounded memory. */
export class InvalidationLog {
  readonly #clock: Clock;
  readonly #kept: LoggedInvalidation[] = [];
  #noted = 0;

  /** `clock` tells when. */
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Notes one. Without a name in it, nothing was invalidated. */
  note(
    cause: Cause,
    { keys = [], tags = [], everything = false }: InvalidatedNames,
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

  /** The last ones, the latest first. */
  recent(): readonly LoggedInvalidation[] {
    return [...this.#kept];
  }
}
