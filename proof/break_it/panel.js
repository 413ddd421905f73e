// @ts-check
/// <reference lib="dom" />
/**
 * The panel "Break it": counts of both caches, and buttons that break their servers.
 *
 * @module
 */
// @ts-ignore: served by the service
import { AccessError, request } from "/dashboard/service.js";
// @ts-ignore: served by the service
import { byId, countText, element, spanText, timeText } from "/dashboard/text.js";

const RUNNING_MS = 500;
const IDLE_MS = 3_000;
/** A stale answer older than this is no longer highlighted. */
const RECENT_MS = 1_500;

const FIGURES = [
  ["stale", "stale answers"],
  ["queries", "database queries"],
  ["reads", "answers"],
  ["failed", "failed"],
];

const cards = element("div", { class: "break-it-caches" });
const buttons = element("div", { class: "break-it-buttons" });
const said = element("p", { class: "hint", role: "status" });
const events = element("ol", { class: "break-it-events", "aria-label": "Log" });
const toggle = button("start", "Start the load");
const reset = button("reset", "Reset counters");
const head = element(
  "div",
  { class: "card-head" },
  element("h2", { id: "break-it-title" }, "Break it"),
  element("div", { class: "inline" }, reset, toggle),
);
const hint = element(
  "p",
  { class: "hint" },
  "Both caches serve the same reads. The recipe: GET; on a miss, query and SETEX; after an UPDATE, DEL. " +
    "An answer counts as stale if it is older than a write that the application has acknowledged, or " +
    "that psql committed more than a second ago. This panel exists in deno task dev only.",
);
byId("main").insertBefore(
  element(
    "section",
    { class: "card", id: "break-it", "aria-labelledby": "break-it-title" },
    head,
    hint,
    cards,
    buttons,
    said,
    events,
  ),
  byId("figures").nextSibling,
);

await follow();

async function follow() {
  for (;;) {
    let waitMs = IDLE_MS;
    try {
      waitMs = document.hidden ? IDLE_MS : await refresh();
    } catch (error) {
      // Without a token the page asks for one. Otherwise the service may be restarting.
      if (!(error instanceof AccessError)) {
        say(error instanceof Error ? error.message : String(error));
      }
    }
    await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
}

/** Shows the state. Answers for how long it is current. */
async function refresh() {
  const state = await (await request("/break-it/state")).json();
  const { running, busy, unavailable, caches, deeds } = state;
  toggle.dataset.deed = running ? "stop" : "start";
  toggle.textContent = running ? "Stop the load" : "Start the load";
  allow(toggle, unavailable ?? busy);
  allow(reset, running ? busy : "The load is not running");
  for (const { id, label, refused } of deeds) {
    const shown = buttons.querySelector(`[data-deed="${id}"]`) ?? button(id, label);
    if (shown.parentElement === null) buttons.append(shown);
    allow(shown, unavailable ?? refused ?? (running ? busy : "Start the load first"));
  }
  cards.replaceChildren(...caches.map(cardOf));
  events.replaceChildren(
    ...state.events.map((/** @type {{ atMs: number, text: string }} */ { atMs, text }) =>
      element("li", {}, element("span", {}, timeText(atMs)), ` ${text}`)
    ),
  );
  say(unavailable ?? (busy === undefined ? "" : `Now: ${busy} …`));
  return running || busy !== undefined ? RUNNING_MS : IDLE_MS;
}

/** @param {any} cache */
function cardOf(cache) {
  const { name, sinceStaleMs } = cache;
  const list = element("dl", {});
  for (const [key = "", label = ""] of FIGURES) {
    const value = element("dd", { "data-figure": key }, countText(cache[key]));
    list.append(element("div", {}, element("dt", {}, label), value));
  }
  const state = sinceStaleMs === null ? "never" : sinceStaleMs < RECENT_MS ? "now" : "before";
  const when = { never: "never stale", now: "stale now", before: "" }[state] ||
    `stale ${spanText(sinceStaleMs)} ago`;
  const title = element("h3", {}, name, " ", element("span", { class: "break-it-state" }, when));
  return element("div", { class: "break-it-cache", "data-stale": state }, title, list);
}

/**
 * @param {string} deed
 * @param {string} label
 */
function button(deed, label) {
  const made = element("button", { type: "button", "data-deed": deed }, label);
  made.addEventListener("click", async () => {
    if (made.ariaDisabled === "true") return;
    made.ariaDisabled = "true";
    try {
      const acting = request(`/break-it/${made.dataset.deed}`, { method: "POST" });
      await refresh(); // it takes a while, and what happens meanwhile is to be seen
      await acting;
      await refresh();
    } catch (error) {
      say(error instanceof Error ? error.message : String(error));
    }
  });
  return made;
}

/**
 * Not `disabled`: that would take the keyboard's focus away, and the reason could not be read.
 *
 * @param {any} control
 * @param {string | undefined} refused
 */
function allow(control, refused) {
  control.ariaDisabled = refused === undefined ? null : "true";
  control.title = refused ?? "";
}

/** @param {string} text */
function say(text) {
  if (said.textContent !== text) said.textContent = text;
}
