// @ts-check
/// <reference lib="dom" />
/**
 * The dashboard: follows the samples and shows each.
 *
 * @module
 */
import { makeCharts } from "./charts.js";
import { History } from "./history.js";
import { makeInspector } from "./inspector.js";
import { showInvalidations, showPopular } from "./lists.js";
import { follow } from "./live.js";
import { keepToken } from "./service.js";
import { byId, timeText } from "./text.js";
import { showTiles } from "./tiles.js";

const history = new History();
const showCharts = makeCharts();
const look = makeInspector();

let lastAtMs = 0;

await follow({
  onSample(/** @type {any} */ sample) {
    lastAtMs = sample.atMs;
    history.add(sample);
    showTiles(sample, lastRate());
    byId("chart-latency").hidden = sample.latencies === null;
    showCharts(history.columns);
    showPopular({ keys: sample.popular, known: sample.cache.coherent }, look);
    showInvalidations(sample.invalidations);
  },
  onState(/** @type {"live" | "lost"} */ state, /** @type {string} */ reason) {
    byId("access").hidden = true;
    byId("main").toggleAttribute("data-stale", state !== "live");
    byId("main").inert = false;
    setStatus(state, state === "live" ? "Live" : lostText(reason));
  },
  onAccess: askForToken,
});

/** Reads per second, as of the last sample. */
function lastRate() {
  const { memory, redis, database, shared } = history.columns;
  const parts = [memory, redis, database, shared].map((column) => column.at(-1) ?? null);
  return parts.includes(null) ? null : parts.reduce((sum, part) => (sum ?? 0) + (part ?? 0), 0);
}

/** @param {string} reason */
function lostText(reason) {
  const why = reason === "" ? "" : ` (${reason})`;
  const since = lastAtMs === 0 ? "" : ` What is shown is of ${timeText(lastAtMs)}.`;
  return `Disconnected${why}: trying again.${since}`;
}

/**
 * Asks for a token if one would help. Resolves when there is a new one.
 *
 * @param {import("./service.js").AccessError} error
 * @returns {Promise<void>}
 */
function askForToken({ status, message }) {
  byId("main").toggleAttribute("data-stale", true);
  byId("main").inert = true; // all of it would be refused as well
  if (status === 403) {
    setStatus("lost", message);
    return new Promise(() => {}); // until the service is started anew, and the page loaded again
  }
  const form = byId("access");
  const input = byId("token");
  setStatus("lost", "Not connected: a token is wanted");
  byId("token-problem").textContent = form.hidden ? "" : "That token was not accepted.";
  form.hidden = false;
  input.focus();
  return new Promise((resolve) => {
    form.addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      keepToken(input.value);
      input.value = "";
      resolve();
    }, { once: true });
  });
}

/**
 * @param {string} state
 * @param {string} text
 */
function setStatus(state, text) {
  const status = byId("status");
  if (status.textContent === text && status.dataset.state === state) return;
  status.dataset.state = state;
  status.textContent = text;
}
