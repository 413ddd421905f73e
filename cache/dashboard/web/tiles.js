// @ts-check
/// <reference lib="dom" />
/**
 * The current figures.
 *
 * @module
 */
import { readsOf, savedOf } from "./history.js";
import { byId, bytesText, countText, element, percentText, rateText, spanText } from "./text.js";

/** A longer lag than this is marked as bad. */
const LAG_MS_BAD = 5_000;

/**
 * @typedef {object} Tile
 * @property {string} name
 * @property {string} value
 * @property {string} note
 * @property {"good" | "bad" | "warn" | ""} [tone]
 */

/**
 * Shows a sample.
 *
 * @param {any} sample
 * @param {number | null} rate Reads a second.
 */
export function showTiles(sample, rate) {
  const { cache, changes } = sample;
  const tiles = [
    readsTile(cache, rate),
    hitsTile(cache),
    savedTile(cache),
    memoryTile(cache),
    redisTile(cache),
    ...(changes === undefined ? [] : [relayTile(changes, cache)]),
  ];
  byId("tiles").replaceChildren(...tiles.map(tileElement));
}

/** @param {Tile} tile */
function tileElement({ name, value, note, tone = "" }) {
  return element(
    "div",
    {},
    element("dt", {}, name),
    element("dd", { "class": "value", "data-tone": tone }, value),
    element("dd", { "class": "note" }, note),
  );
}

/**
 * @param {any} cache
 * @param {number | null} rate
 * @returns {Tile}
 */
function readsTile(cache, rate) {
  return {
    name: "Reads a second",
    value: rate === null ? "–" : rateText(rate),
    note: `${countText(readsOf(cache))} since start`,
  };
}

/**
 * @param {any} cache
 * @returns {Tile}
 */
function hitsTile({ memory, redis }) {
  /** @param {{ hits: number, misses: number, hitRate: number }} tier */
  const text = ({ hits, misses, hitRate }) =>
    hits + misses === 0 ? "–" : `${Math.floor(100 * hitRate)}\u00a0%`;
  return {
    name: "Found in memory",
    value: text(memory),
    note: `then in Redis: ${text(redis)} of ${countText(redis.hits + redis.misses)}`,
  };
}

/**
 * @param {any} cache
 * @returns {Tile}
 */
function savedTile(cache) {
  const reads = readsOf(cache);
  return {
    name: "Queries saved",
    value: reads === 0 ? "–" : percentText(100 * savedOf(cache) / reads),
    note: `${countText(savedOf(cache))} saved, ${countText(cache.loads)} made`,
  };
}

/**
 * @param {any} cache
 * @returns {Tile}
 */
function memoryTile({ memory, coherent }) {
  return {
    name: "Memory tier",
    value: coherent ? "coherent" : "bypassed",
    note: `${countText(memory.entries)} ${memory.entries === 1 ? "entry" : "entries"}, ${
      bytesText(memory.bytes)
    }`,
    tone: coherent ? "good" : "warn",
  };
}

/**
 * @param {any} cache
 * @returns {Tile}
 */
function redisTile({ breaker, redisErrors, pendingInvalidations }) {
  const owed = pendingInvalidations === 0 ? "" : `, ${countText(pendingInvalidations)} owed to it`;
  return {
    name: "Circuit breaker",
    value: breaker,
    note: `Redis: ${countText(redisErrors)} ${redisErrors === 1 ? "error" : "errors"}${owed}`,
    tone: breaker === "closed" ? "good" : "bad",
  };
}

/**
 * @param {any} changes
 * @param {any} cache
 * @returns {Tile}
 */
function relayTile(changes, { invalidations }) {
  const name = "Relay backlog";
  const done = `${countText(invalidations)} keys invalidated`;
  if (changes === null) return { name, value: "unknown", note: done, tone: "warn" };
  const { backlog, lagMs } = changes;
  const lag = backlog === 0 ? "" : `${spanText(lagMs)} behind, `;
  const tone = backlog === 0 ? "good" : lagMs > LAG_MS_BAD ? "bad" : "";
  return { name, value: countText(backlog), note: lag + done, tone };
}
