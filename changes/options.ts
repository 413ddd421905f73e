import type { InvalidatedNames } from "@lookaside/cache";
import type { AnyDatabase } from "./adapters/any_database.ts";
import type { Invalidates } from "./apply.ts";
import type { ChangesProblem } from "./health.ts";

/** A hundred years: an interval that Postgres can subtract from any time. */
const WINDOW_MS_MAX = 3_153_600_000_000;

/** Options of `postgresChanges()`. Durations are milliseconds. */
export interface PostgresChangesOptions {
  /**
   * The name of the cache in the database, the same in every process that uses it. Default: the address of its
   * Redis, and its prefix.
   */
  readonly cacheName?: string;
  /** `true`: create or upgrade the schema `lookaside` if the role may. Default true. */
  readonly install?: boolean;
  /**
   * A database for `LISTEN` if the first one is behind a pooler: it must connect to Postgres directly. `false`:
   * poll for changes.
   */
  readonly listen?: AnyDatabase | false;
  /** Interval at which to look for changes without a notification. Default 1,000. */
  readonly pollMs?: number;
  /**
   * Time for which applied changes are kept, in case Redis loses them: as long as an entry lives, with jitter and
   * grace. Default 390,000, which suits the defaults of a cache.
   */
  readonly replayWindowMs?: number;
  /**
   * Keys and tags that a change invalidates, by table. Default: what `table()` has stored. One process invalidates
   * for all, so processes with other functions need another `cacheName`.
   */
  readonly invalidates?: Invalidates;
  /**
   * `true`: the memory of a process stands in while Redis is down; each process then asks Postgres what has
   * changed, four times per `memoryLeaseMs` of the cache. `false`: all reads go to Postgres. Default true.
   */
  readonly fallback?: boolean;
  /** Called with the names that were invalidated on a server. */
  readonly onInvalidated?: (
    names: Partial<InvalidatedNames> & { readonly everything?: boolean },
  ) => void;
  /**
   * Called if Postgres fails, or Redis does not apply an invalidation; with the same error once a minute. Both are
   * retried.
   */
  readonly onError?: (error: unknown) => void;
  /**
   * Called once a minute with each problem that a person must fix: a table that is not watched properly, a relay
   * that lags, an outbox that grows, a transaction that never ends. Default: `onError`.
   */
  readonly onProblem?: (problem: ChangesProblem) => void;
}

/** The types of a group of options; `any`: something else checks it. */
export type Types<Name extends string> = Readonly<Record<Name, string>>;

const OPTIONS: Types<keyof PostgresChangesOptions> = {
  cacheName: "string",
  install: "boolean",
  listen: "any",
  pollMs: "any",
  replayWindowMs: "any",
  invalidates: "object",
  fallback: "boolean",
  onInvalidated: "function",
  onError: "function",
  onProblem: "function",
};

/**
 * @throws {TypeError} The options are no object, or one of them is unknown or has another type.
 * @throws {RangeError} A duration is out of range.
 */
export function assertChangesOptions(options: PostgresChangesOptions): void {
  assertOptions(options, OPTIONS);
  assertDuration("pollMs", options.pollMs, { min: 1, max: Infinity });
  assertDuration("replayWindowMs", options.replayWindowMs, { min: 0, max: WINDOW_MS_MAX });
}

/** @throws {TypeError} The options are no object, or one of them is unknown or has another type. */
export function assertOptions(
  options: object,
  types: Types<string>,
  which = "these options",
): void {
  assertObject(options, which);
  for (const name in options) {
    if (!Object.hasOwn(types, name)) {
      const names = Object.keys(types).join(", ");
      throw new TypeError(
        `Cannot use the option ${name}: there is none of this name, but ${names}`,
      );
    }
    const type = types[name];
    const value: unknown = Reflect.get(options, name);
    if (value === undefined || type === "any" || (typeof value === type && value !== null)) {
      continue;
    }
    throw new TypeError(`Cannot use ${name}: it must be of type ${type}, not ${typeof value}`);
  }
}

/** @throws {TypeError} They are no object, or one that is built in and holds no options, as a list or a promise. */
function assertObject(options: unknown, which: string): void {
  const kind = Object.prototype.toString.call(options);
  if (kind === "[object Object]" || kind === "[object Module]") return;
  throw new TypeError(`Cannot use ${which}: they must be an object`);
}

/** @throws {RangeError} A duration that is given is no number in this range. */
export function assertDuration(
  name: string,
  value: unknown,
  { min, max }: { readonly min: number; readonly max: number },
): void {
  if (value === undefined || (typeof value === "number" && value >= min && value <= max)) return;
  const range = max === Infinity ? `from ${min}` : `from ${min} to ${max}`;
  const given = typeof value === "string" ? JSON.stringify(value) : String(value);
  throw new RangeError(`Cannot use ${name} ${given}: it must be a number ${range}`);
}
