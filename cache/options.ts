import type { ChangeSource } from "./changes.ts";
import type { CacheEvent, LookupEvent } from "./events.ts";
import { assertObject, shown } from "./errors.ts";
import type { Jsonify } from "./lookup.ts";
import { assertForm, type Codec, type Schema } from "./reading.ts";
import { type Runtime, TIMER_MS_MAX } from "./runtime.ts";

/**
 * Options of one call. Each defaults to the cache's own.
 *
 * @typeParam T The value as it is loaded or set.
 * @typeParam V The value as it comes back.
 */
export interface EntryOptions<T = unknown, V = Jsonify<T>> {
  /** Time for which the entry is fresh, or a function of the value that returns it. 0: do not store. */
  readonly ttlMs?: number | ((value: T) => number | undefined);
  /** Time after that in which the value may be served stale. */
  readonly graceMs?: number;
  /** Time for which "does not exist" is remembered. */
  readonly negativeTtlMs?: number;
  /** The encoding of values in the cache. Default: JSON. All readers of a key must use the same one. */
  readonly codec?: Codec<T, V>;
  /**
   * The schema that values must match, and whose output is returned. An entry that does not match counts as
   * missing; a loaded value that does not match is not stored, and the read rejects with {@linkcode SchemaError}.
   */
  readonly schema?: Schema<V>;
  /** `true`: load now, whatever is stored, and store the result. */
  readonly refresh?: boolean;
  /** Names by which the entry can be invalidated together with others. At most 16. */
  readonly tags?: readonly string[];
  /**
   * More tags, derived from the value. If a key's tags are not known before its load, as in the first load of a
   * process, the value is returned but not stored, because an invalidation during the load would go unnoticed.
   */
  readonly tagsOf?: (value: T) => readonly string[];
}

/** Options of {@linkcode Cache.warm}. */
export interface WarmOptions<T = unknown> extends EntryOptions<T, unknown> {
  /** Number of keys to warm. Default 100, at most 1,000. */
  readonly count?: number;
  /** Prefix of the keys to warm, those that the loader can load. Default: all keys. */
  readonly keyPrefix?: string;
}

/** The part of a connection to Redis that can change, or does not fit into a URL. */
export interface RedisAccess {
  /** The user. Default: that of the URL. */
  readonly username?: string;
  /** Its password, or a token in place of one. Default: that of the URL. */
  readonly password?: string;
  /** The user of the Sentinels, if they require one. */
  readonly sentinelUsername?: string;
  /** The password of the Sentinels. */
  readonly sentinelPassword?: string;
  /** Options of Node's `tls.connect()` besides `ca`, such as a client certificate. Used with `rediss:` only. */
  readonly tls?: Readonly<Record<string, unknown>>;
}

/** Options of a {@linkcode Cache}. Durations are milliseconds. */
export interface CacheOptions {
  /**
   * `memory:` (the default), `redis://host`, `redis-sentinel://h1,h2,h3/primary`,
   * `redis-cluster://h1,h2,h3` or `redis-ring://h1,h2,h3`; `rediss…` with TLS.
   */
  readonly url?: string;
  /** The certificates to trust with TLS, as PEM. Default: the system's. */
  readonly ca?: string;
  /**
   * Called before each attempt to connect, for tokens that expire, passwords that change, and the credentials of
   * Sentinels. It must return at once, so do anything that takes time in advance. If it throws later than at the first
   * call, what it returned before is used again.
   */
  readonly connect?: () => RedisAccess;
  /** `false`: every read loads, and nothing is stored. For measuring what the cache is worth. */
  readonly enabled?: boolean;
  /** First part of every key. Default `la`. */
  readonly prefix?: string;
  /** Key version: raising it makes every older entry unreachable. Default 1. */
  readonly version?: number;
  /** Time for which an entry is fresh. Default 300,000. */
  readonly ttlMs?: number;
  /** Time after that in which an entry may be served stale. Default 60,000. */
  readonly graceMs?: number;
  /** Time for which "does not exist" is remembered. Default 30,000. */
  readonly negativeTtlMs?: number;
  /** Random spread of TTLs, 0 to 1: 0.1 is ±10 %. Default 0.1. */
  readonly jitterRatio?: number;
  /** Factor for refreshing entries before they expire (XFetch's beta). 0: never. Default 1. */
  readonly earlyRefreshBeta?: number;
  /** Payloads of at least this many bytes are stored compressed. Default 4,096. */
  readonly compressBytesMin?: number;
  /** Size of the memory tier. 0: no memory tier. Default 64 MiB. */
  readonly memoryBytes?: number;
  /** Time for which memory is trusted after the feed's last sign of life. Default 1,000. */
  readonly memoryLeaseMs?: number;
  /** Interval between questions for the feed's sign of life. Default a quarter of `memoryLeaseMs`. */
  readonly heartbeatMs?: number;
  /** Longest duration of a Redis command. Default 200. */
  readonly commandTimeoutMs?: number;
  /** Longest duration of the right to load one key. Default 5,000. */
  readonly leaseMs?: number;
  /** Time that a load may take, including the wait for its turn. Below `leaseMs`. Default 4,000. */
  readonly loadTimeoutMs?: number;
  /** Longest wait for another process's load. Default `leaseMs` + 1,000. */
  readonly waitMsMax?: number;
  /** Loads that run at once in this process. Default 64. */
  readonly loadsMax?: number;
  /** Loads that may wait for their turn; any more are refused. Default 1,024. */
  readonly loadsWaitingMax?: number;
  /**
   * Reports changes to the source of truth, regardless of who makes them. A server is read only after everything
   * that was committed before the connection to it has been applied.
   */
  readonly changes?: ChangeSource;
  /** Called for each {@linkcode CacheEvent}. If it throws or rejects, that is counted and otherwise ignored. */
  readonly onEvent?: (event: CacheEvent) => void;
  /** Called for each read. It slows down every hit: leave it out unless debugging. */
  readonly onLookup?: (event: LookupEvent) => void;
  /**
   * Called with each promise that runs in the background; it never rejects. For hosts that freeze a process once
   * it has answered: pass the promise to their `waitUntil`.
   */
  readonly background?: (work: Promise<void>) => void;
  /** The clock and random numbers. Default: the system's. */
  readonly runtime?: Runtime;
}

/** The longest life of an entry; a longer one is shortened to it. A hundred years, which Redis accepts too. */
const DURATION_MS_MAX = 3_153_600_000_000;

const DEFAULTS = {
  ttlMs: 300_000,
  graceMs: 60_000,
  negativeTtlMs: 30_000,
  jitterRatio: 0.1,
  earlyRefreshBeta: 1,
  compressBytesMin: 4_096,
  memoryBytes: 67_108_864,
  memoryLeaseMs: 1_000,
  heartbeatMs: 250,
  commandTimeoutMs: 200,
  leaseMs: 5_000,
  loadTimeoutMs: 4_000,
  waitMsMax: 6_000,
  loadsMax: 64,
  loadsWaitingMax: 1_024,
};

/** Durations that must be shorter than another. */
const BELOW = [["loadTimeoutMs", "leaseMs"], ["heartbeatMs", "memoryLeaseMs"]] as const;

/** {@linkcode CacheOptions} with a checked value for every number. */
export type Settings = Readonly<Required<Pick<CacheOptions, keyof typeof DEFAULTS>>>;

/** The types of a group of options; `true`: something else checks it. */
export type Types<Name extends string> = Readonly<Record<Name, string | true>>;

/** The options of a cache that are not durations or limits. */
const CACHE: Types<Exclude<keyof CacheOptions, keyof Settings>> = {
  url: "string",
  ca: "string",
  connect: "function",
  enabled: "boolean",
  prefix: "string",
  version: true,
  changes: "object",
  onEvent: "function",
  onLookup: "function",
  background: "function",
  runtime: "object",
};

/** The parts of an access; their values are secret, so none may stand in an error. */
const ACCESS: Types<keyof RedisAccess> = {
  username: true,
  password: true,
  sentinelUsername: true,
  sentinelPassword: true,
  tls: true,
};

/** The options of an entry. */
const ENTRY: Types<keyof EntryOptions> = {
  ttlMs: true,
  graceMs: true,
  negativeTtlMs: true,
  codec: true,
  schema: true,
  refresh: "boolean",
  tags: true,
  tagsOf: "function",
};

/**
 * Refuses what would be ignored: a misspelt option, or `url` from a variable that is not set, which would leave each
 * process with a cache of its own.
 *
 * @throws {TypeError} An option is unknown or has another type.
 */
function assertCacheOptions(options: CacheOptions): void {
  assertOptions(options, { ...DEFAULTS, ...CACHE });
  if ("url" in options && options.url === undefined) {
    throw new TypeError("Cannot use url undefined: give the address of Redis, or memory: for none");
  }
  if (options.changes !== undefined && typeof options.changes.attach !== "function") {
    throw new TypeError("Cannot use changes: it must be what postgresChanges() returns");
  }
  if (options.runtime !== undefined && !isRuntime(options.runtime)) {
    throw new TypeError("Cannot use runtime: it must have random() and a clock, as systemRuntime");
  }
}

/** @throws {TypeError} It is no object, as a promise, or a part is unknown: a misspelt one would log in as anybody. */
export function assertAccess(access: RedisAccess): void {
  if (access instanceof Promise) {
    throw new TypeError("Cannot use connect: it must return at once, and no promise");
  }
  assertOptions(access, ACCESS);
}

function isRuntime({ clock, random }: Partial<Runtime>): boolean {
  return [random, clock?.now, clock?.monotonicNow, clock?.after]
    .every((part) => typeof part === "function");
}

/**
 * @param known The options there are; where a type is given, of that type.
 * @throws {TypeError} The options are no object, or one of them is not known or has another type.
 */
export function assertOptions(options: object, known: Readonly<Record<string, unknown>>): void {
  assertObject(options);
  for (const name in options) {
    if (!Object.hasOwn(known, name)) {
      const names = Object.keys(known).join(", ");
      throw new TypeError(
        `Cannot use the option ${name}: there is none of this name, but ${names}`,
      );
    }
    const value: unknown = Reflect.get(options, name);
    const type = known[name];
    const isChecked = typeof type === "string" && value !== undefined;
    if (!isChecked || (typeof value === type && value !== null)) continue;
    throw new TypeError(`Cannot use ${name} ${shown(value)}: it must be of type ${type}`);
  }
}

/**
 * @throws {TypeError} An option is unknown or has another type.
 * @throws {RangeError} A number is out of range.
 */
export function settingsOf(options: CacheOptions): Settings {
  assertCacheOptions(options);
  const settings = { ...DEFAULTS };
  for (const name of Object.keys(DEFAULTS) as (keyof Settings)[]) {
    const value: unknown = options[name] === undefined ? defaultOf(name, settings) : options[name];
    const isDuration = /Ms(Max)?$/.test(name);
    if (typeof value !== "number" || !(value >= 0) || (value === Infinity && !isDuration)) {
      throw notFromZero(name, value);
    }
    settings[name] = isDuration ? Math.min(value, longestMs(name)) : value;
  }
  for (const name of ["leaseMs", "memoryLeaseMs", "heartbeatMs", "loadsMax"] as const) {
    if (settings[name] === 0) throw new RangeError(`Cannot use ${name} 0: it must be above 0`);
  }
  if (settings.jitterRatio > 1) {
    throw new RangeError(`Cannot use jitterRatio ${settings.jitterRatio}: it must be at most 1`);
  }
  for (const [name, limit] of BELOW) {
    if (settings[name] < settings[limit]) continue;
    const range = `below ${limit}, ${settings[limit]}`;
    throw new RangeError(`Cannot use ${name} ${settings[name]}: it must be ${range}`);
  }
  return Object.freeze(settings);
}

/** The longest duration of an option: an entry may live longer than a timer runs. */
function longestMs(name: keyof Settings): number {
  return /^(ttl|grace|negativeTtl)Ms$/.test(name) ? DURATION_MS_MAX : TIMER_MS_MAX;
}

/** The default of an option, which may depend on those before it. */
function defaultOf(name: keyof Settings, { leaseMs, memoryLeaseMs }: Settings): number {
  if (name === "heartbeatMs") return memoryLeaseMs / 4;
  if (name === "loadTimeoutMs") return leaseMs * 0.8;
  return name === "waitMsMax" ? leaseMs + 1_000 : DEFAULTS[name];
}

/**
 * Normalises a duration that was derived from a value: at least 0, at most the longest duration.
 *
 * @throws {RangeError} It is not a number.
 */
export function durationMs(name: string, value: unknown): number {
  if (typeof value !== "number" || Number.isNaN(value)) {
    throw new RangeError(`Cannot use ${name} ${shown(value)}: it must be a number`);
  }
  return Math.min(Math.max(value, 0), DURATION_MS_MAX);
}

/**
 * @throws {TypeError} An option is unknown, or its codec or schema is none.
 * @throws {RangeError} A duration that does not depend on the value is not a number of at least 0.
 */
export function assertEntryOptions(options: EntryOptions<never, unknown>): void {
  assertOptions(options, ENTRY);
  assertForm(options);
  for (const name of ["ttlMs", "graceMs", "negativeTtlMs"] as const) {
    const value: unknown = options[name];
    if (value === undefined || (name === "ttlMs" && typeof value === "function")) continue;
    if (typeof value !== "number" || !(value >= 0)) throw notFromZero(name, value);
  }
}

function notFromZero(name: string, value: unknown): RangeError {
  const range = value === Infinity ? "finite" : "a number of at least 0";
  return new RangeError(`Cannot use ${name} ${shown(value)}: it must be ${range}`);
}
