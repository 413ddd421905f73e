import type { ChangeSource } from "./changes.ts";
import type { CacheEvent, LookupEvent } from "./events.ts";
import type { Runtime } from "./runtime.ts";
import type { Store } from "./store.ts";

/**
 * Options of one call. Each defaults to the cache's own.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 *
 * await using cache = new Cache();
 * const token = { text: "t0ken", expiresInMs: 3_600_000 };
 * await cache.getOrLoad("token", () => Promise.resolve(token), {
 *   ttlMs: ({ expiresInMs }) => expiresInMs / 2,
 *   tags: ["tokens"],
 * });
 * assert(await cache.has("token"));
 * ```
 */
export interface EntryOptions<T = unknown> {
  /** Fresh life, or a function that reads it off the value. 0: do not store. */
  readonly ttlMs?: number | ((value: T) => number);
  /** How long past the fresh life the value may be served stale. */
  readonly graceMs?: number;
  /** Fresh life of "does not exist". */
  readonly negativeTtlMs?: number;
  /** Names under which the entry can be invalidated together with others. At most 16. */
  readonly tags?: readonly string[];
}

/**
 * Options of {@linkcode Cache.warm}.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache, type WarmOptions } from "@lookaside/cache";
 *
 * await using cache = new Cache();
 * const options: WarmOptions<string> = { count: 50, keyPrefix: "user:", tags: ["users"] };
 * assert.equal(await cache.warm(() => Promise.resolve(new Map<string, string>()), options), 0);
 * ```
 */
export interface WarmOptions<T = unknown> extends EntryOptions<T> {
  /** How many keys to warm. Default 100, at most 1,000. */
  readonly count?: number;
  /** Only keys that begin with this: those that the loader can load. Default: all. */
  readonly keyPrefix?: string;
}

/**
 * Options of a {@linkcode Cache}. Durations are milliseconds.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache, type CacheOptions } from "@lookaside/cache";
 *
 * const options: CacheOptions = {
 *   url: "memory:", // or redis://127.0.0.1:6379
 *   prefix: "shop",
 *   ttlMs: 60_000,
 *   graceMs: 600_000,
 * };
 * await using cache = new Cache(options);
 * assert.throws(() => new Cache({ ttlMs: -1 }), RangeError);
 * ```
 */
export interface CacheOptions {
  /**
   * `memory:` (the default), `redis://host`, `redis-sentinel://h1,h2,h3/primary`,
   * `redis-cluster://h1,h2,h3` or `redis-ring://h1,h2,h3`; `rediss…` with TLS.
   */
  readonly url?: string;
  /** The certificates to trust with TLS, as PEM. Default: the system's. */
  readonly ca?: string;
  /** `false`: every read loads, nothing is stored. For measuring what the cache is worth. */
  readonly enabled?: boolean;
  /** First part of every key. Default `la`. */
  readonly prefix?: string;
  /** Key version: raising it makes every older entry unreachable. Default 1. */
  readonly version?: number;
  /** Fresh life of an entry. Default 300,000. */
  readonly ttlMs?: number;
  /** How long past its fresh life an entry may be served stale. Default 60,000. */
  readonly graceMs?: number;
  /** Fresh life of "does not exist". Default 30,000. */
  readonly negativeTtlMs?: number;
  /** Random spread of TTLs, 0 to 1: 0.1 is ±10 %. Default 0.1. */
  readonly jitterRatio?: number;
  /** How eagerly entries are refreshed ahead of expiry (XFetch's beta). 0: never. Default 1. */
  readonly earlyRefreshBeta?: number;
  /** Payloads of at least this many bytes are stored compressed. Default 1,024. */
  readonly compressBytesMin?: number;
  /** Bound of the memory tier. 0: no memory tier. Default 64 MiB. */
  readonly memoryBytes?: number;
  /** How long memory is trusted without a sign of life of the feed. Default 1,000. */
  readonly memoryLeaseMs?: number;
  /** How often the feed is asked for a sign of life. Default a quarter of `memoryLeaseMs`. */
  readonly heartbeatMs?: number;
  /** How long a Redis command may take. Default 200. */
  readonly commandTimeoutMs?: number;
  /** How long the right to load one key lasts. Default 5,000. */
  readonly leaseMs?: number;
  /** How long a load may take, waiting for its turn included. Below `leaseMs`. Default 4,000. */
  readonly loadTimeoutMs?: number;
  /** How long a reader waits for another process's load. Default `leaseMs` + 1,000. */
  readonly waitMsMax?: number;
  /** Loads that run at once in this process. Default 64. */
  readonly loadsMax?: number;
  /** Loads that wait behind them; past it they are refused. Default 1,024. */
  readonly loadsWaitingMax?: number;
  /**
   * Tells what changes in the source of truth, whoever writes to it. Nothing is read from a server before
   * all that was committed until it was connected has been applied.
   */
  readonly changes?: ChangeSource;
  /** Called for each {@linkcode CacheEvent}. Must not throw. */
  readonly onEvent?: (event: CacheEvent) => void;
  /** Called for each answered read. Costs time on every hit: leave it out unless debugging. */
  readonly onLookup?: (event: LookupEvent) => void;
  /** Time and chance. Default: the system's. */
  readonly runtime?: Runtime;
  /** The shared tier, instead of one made from `url`. For tests and other stores. */
  readonly store?: Store;
}

/** {@linkcode CacheOptions} with every number decided and checked. */
export type Settings = Readonly<
  Required<
    Pick<
      CacheOptions,
      | "ttlMs"
      | "graceMs"
      | "negativeTtlMs"
      | "jitterRatio"
      | "earlyRefreshBeta"
      | "compressBytesMin"
      | "memoryBytes"
      | "memoryLeaseMs"
      | "heartbeatMs"
      | "commandTimeoutMs"
      | "leaseMs"
      | "loadTimeoutMs"
      | "waitMsMax"
      | "loadsMax"
      | "loadsWaitingMax"
    >
  >
>;

/** @throws {RangeError} A number is out of range. */
export function settingsOf(options: CacheOptions): Settings {
  const memoryLeaseMs = options.memoryLeaseMs ?? 1_000;
  const leaseMs = options.leaseMs ?? 5_000;
  const settings: Settings = {
    ttlMs: options.ttlMs ?? 300_000,
    graceMs: options.graceMs ?? 60_000,
    negativeTtlMs: options.negativeTtlMs ?? 30_000,
    jitterRatio: options.jitterRatio ?? 0.1,
    earlyRefreshBeta: options.earlyRefreshBeta ?? 1,
    compressBytesMin: options.compressBytesMin ?? 1_024,
    memoryBytes: options.memoryBytes ?? 64 * 1024 * 1024,
    memoryLeaseMs,
    heartbeatMs: options.heartbeatMs ?? memoryLeaseMs / 4,
    commandTimeoutMs: options.commandTimeoutMs ?? 200,
    leaseMs,
    loadTimeoutMs: options.loadTimeoutMs ?? leaseMs * 0.8,
    waitMsMax: options.waitMsMax ?? leaseMs + 1_000,
    loadsMax: options.loadsMax ?? 64,
    loadsWaitingMax: options.loadsWaitingMax ?? 1_024,
  };
  for (const [name, value] of Object.entries(settings)) {
    if (!Number.isFinite(value) || value < 0) {
      throw new RangeError(`Cannot use ${name} ${value}: it must be a number from 0`);
    }
  }
  for (const name of ["leaseMs", "memoryLeaseMs", "heartbeatMs", "loadsMax"] as const) {
    if (settings[name] === 0) throw new RangeError(`Cannot use ${name} 0: it must be above 0`);
  }
  if (settings.jitterRatio > 1) {
    throw new RangeError(`Cannot use jitterRatio ${settings.jitterRatio}: it must be at most 1`);
  }
  if (settings.loadTimeoutMs >= settings.leaseMs) {
    throw new RangeError("Cannot use loadTimeoutMs: it must be below leaseMs");
  }
  if (settings.heartbeatMs >= settings.memoryLeaseMs) {
    throw new RangeError("Cannot use heartbeatMs: it must be below memoryLeaseMs");
  }
  return Object.freeze(settings);
}
