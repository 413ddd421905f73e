// @ts-check
/**
 * The changes between samples, as columns for the charts.
 *
 * @module
 */

/** Limit of kept samples: five minutes. */
const KEPT_MAX = 300;
/** Samples further apart than this have a gap in the chart. */
const GAP_S = 3;

/** @typedef {(number | null)[]} Column */

/**
 * @typedef {object} Columns Input of the charts. Rates are per second, shares in percent.
 * @property {number[]} atS
 * @property {Column} memory Reads answered by memory.
 * @property {Column} redis Reads answered by Redis.
 * @property {Column} database Loads.
 * @property {Column} shared Reads that joined another read.
 * @property {Column} saved Reads without a query of the database.
 * @property {Column} memoryShare
 * @property {Column} redisShare
 * @property {Column} memoryP50
 * @property {Column} memoryP99
 * @property {Column} redisP50
 * @property {Column} redisP99
 * @property {Column} databaseP50
 * @property {Column} databaseP99
 */

const NAMES = /** @type {const} */ ([
  "memory",
  "redis",
  "database",
  "shared",
  "saved",
  "memoryShare",
  "redisShare",
  "memoryP50",
  "memoryP99",
  "redisP50",
  "redisP99",
  "databaseP50",
  "databaseP99",
]);

/** The latest samples as columns. */
export class History {
  /** @type {Columns} */
  columns = /** @type {any} */ ({
    atS: [],
    ...Object.fromEntries(NAMES.map((name) => [name, []])),
  });
  /** @type {any} */
  #previous;

  /**
   * Adds the changes since the previous sample. The first sample has no rates.
   *
   * @param {any} sample
   */
  add(sample) {
    const before = this.#previous;
    this.#previous = sample;
    if (before === undefined) return;
    const seconds = (sample.atMs - before.atMs) / 1000;
    const restarted = readsOf(sample.cache) < readsOf(before.cache);
    if (seconds > GAP_S || seconds <= 0 || restarted) {
      if (seconds > 0) this.#push(sample.atMs / 1000, {});
      return;
    }
    this.#push(sample.atMs / 1000, rowOf(before, sample, seconds));
  }

  /**
   * @param {number} atS
   * @param {Partial<Record<typeof NAMES[number], number | null>>} row
   */
  #push(atS, row) {
    const { columns } = this;
    columns.atS.push(atS);
    for (const name of NAMES) columns[name].push(row[name] ?? null);
    if (columns.atS.length <= KEPT_MAX) return;
    for (const name of NAMES) columns[name].shift();
    columns.atS.shift();
  }
}

/**
 * Reads that the cache answered, by its counters.
 *
 * @param {any} cache
 */
export function readsOf(cache) {
  return savedOf(cache) + cache.loads;
}

/**
 * Reads without a query of the database: a tier answered, or they joined another read.
 *
 * @param {any} cache
 */
export function savedOf({ memory, redis, coalesced }) {
  return memory.hits + redis.hits + coalesced;
}

/**
 * @param {any} before
 * @param {any} after
 * @param {number} seconds
 */
function rowOf(before, after, seconds) {
  const { cache: was } = before;
  const { cache: is, latencies } = after;
  /** @param {number} count */
  const rate = (count) => count / seconds;
  return {
    memory: rate(is.memory.hits - was.memory.hits),
    redis: rate(is.redis.hits - was.redis.hits),
    database: rate(is.loads - was.loads),
    shared: rate(is.coalesced - was.coalesced),
    saved: rate(savedOf(is) - savedOf(was)),
    memoryShare: share(is.memory, was.memory),
    redisShare: share(is.redis, was.redis),
    memoryP50: durationOf(latencies?.memory, "p50Ms"),
    memoryP99: durationOf(latencies?.memory, "p99Ms"),
    redisP50: durationOf(latencies?.redis, "p50Ms"),
    redisP99: durationOf(latencies?.redis, "p99Ms"),
    databaseP50: durationOf(latencies?.database, "p50Ms"),
    databaseP99: durationOf(latencies?.database, "p99Ms"),
  };
}

/**
 * @param {{ hits: number, misses: number }} is
 * @param {{ hits: number, misses: number }} was
 */
function share(is, was) {
  const hits = is.hits - was.hits;
  const asked = hits + is.misses - was.misses;
  return asked === 0 ? null : 100 * hits / asked;
}

/**
 * @param {{ count: number, p50Ms: number, p99Ms: number } | undefined} window
 * @param {"p50Ms" | "p99Ms"} name
 */
function durationOf(window, name) {
  return window === undefined || window.count === 0 ? null : window[name];
}
