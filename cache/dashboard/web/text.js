// @ts-check
/// <reference lib="dom" />
/**
 * Figures as text, and text as elements. Text never becomes markup, because keys may contain anything.
 *
 * @module
 */

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const ONE = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const TIME = new Intl.DateTimeFormat("en", { timeStyle: "medium", hourCycle: "h23" });
const UNITS = ["B", "kB", "MB", "GB"];

/**
 * Makes an element.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string>} attributes
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * The existing element with that id.
 *
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`Cannot find #${id} on the page`);
  return found;
}

/** @param {number} count */
export function countText(count) {
  return count < 100_000 ? WHOLE.format(count) : COMPACT.format(count);
}

/** @param {number} rate */
export function rateText(rate) {
  return rate < 10 ? ONE.format(rate) : countText(rate);
}

/** @param {number} percent */
export function percentText(percent) {
  return `${ONE.format(percent > 99.9 && percent < 100 ? 99.9 : percent)}\u00a0%`;
}

/**
 * A duration in two digits, from microseconds to seconds.
 *
 * @param {number} ms
 */
export function durationText(ms) {
  if (ms < 0.1) return `${Number((1000 * ms).toPrecision(2))}\u00a0µs`;
  if (ms < 1000) return `${Number(ms.toPrecision(2))}\u00a0ms`;
  return `${Number((ms / 1000).toPrecision(2))}\u00a0s`;
}

/** @param {number} bytes */
export function bytesText(bytes) {
  let unit = 0;
  for (; bytes >= 1000 && unit < UNITS.length - 1; unit++) bytes /= 1000;
  return `${ONE.format(bytes)}\u00a0${UNITS[unit]}`;
}

/** @param {number} ms */
export function spanText(ms) {
  const seconds = Math.round(Math.abs(ms) / 1000);
  if (Math.abs(ms) < 1_000) return `${Math.round(Math.abs(ms))} ms`;
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 120 ? `${minutes} min ${seconds % 60} s` : `${Math.round(minutes / 60)} h`;
}

/** @param {number} atMs */
export function timeText(atMs) {
  return TIME.format(atMs);
}
