// @ts-check
/// <reference lib="dom" />
/**
 * The most requested keys, and the last invalidations.
 *
 * @module
 */
import { byId, countText, element, timeText } from "./text.js";

const CAUSES = /** @type {Readonly<Record<string, string>>} */ ({
  "write": "API write",
  "change feed": "Change feed",
  "admin": "Admin",
});

/**
 * Shows the most requested keys, which Redis counts for all instances. Does not replace an unchanged list, since
 * one item may have the focus.
 *
 * @param {{ readonly keys: readonly string[], readonly known: boolean }} popular
 * @param {(key: string) => Promise<void>} look
 */
export function showPopular({ keys, known }, look) {
  const list = byId("popular");
  byId("popular-empty").hidden = keys.length > 0;
  byId("popular-empty").textContent = known
    ? "None yet. One read in about 32 is counted."
    : "Not known while Redis is away.";
  const shown = [...list.querySelectorAll("button")].map(({ textContent }) => textContent);
  if (shown.length === keys.length && shown.every((key, at) => key === keys[at])) return;
  const focused = document.activeElement?.textContent;
  list.replaceChildren(...keys.map((key) => {
    const button = element("button", { type: "button", "class": "mono" }, key);
    button.addEventListener("click", () => void look(key));
    return element("li", {}, button);
  }));
  for (const button of list.querySelectorAll("button")) {
    if (button.textContent === focused) button.focus();
  }
}

/**
 * Shows the last invalidations, if they are recorded.
 *
 * @param {readonly any[] | null} invalidations
 */
export function showInvalidations(invalidations) {
  byId("invalidations-card").hidden = invalidations === null;
  if (invalidations === null) return;
  const body = byId("invalidations");
  byId("invalidations-empty").hidden = invalidations.length > 0;
  byId("invalidations-table").hidden = invalidations.length === 0;
  const first = invalidations[0];
  const newest = first === undefined ? "" : `${first.atMs} ${first.id}`;
  if (body.dataset.newest === newest) return;
  body.dataset.newest = newest;
  body.replaceChildren(...invalidations.map(row));
}

/** @param {any} invalidation */
function row({ atMs, cause, keys, keyCount, tags, everything, pending }) {
  const what = element("td", {});
  if (everything) what.append("everything");
  for (const key of keys) what.append(element("code", {}, key), " ");
  if (keyCount > keys.length) what.append(`and ${countText(keyCount - keys.length)} more keys `);
  for (const tag of tags) what.append("tag ", element("code", {}, tag), " ");
  if (pending) what.append(element("span", { "data-tone": "warn" }, "(Redis has yet to take it)"));
  return element(
    "tr",
    {},
    element("td", {}, timeText(atMs)),
    element("td", {}, CAUSES[cause] ?? cause),
    what,
  );
}
