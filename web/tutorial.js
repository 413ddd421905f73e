// @ts-check
/// <reference lib="dom" />
/**
 * The five steps that show the effects of a cache on the service itself: the service's part of the page.
 *
 * @module
 */
import { entityTag } from "./entity_tag.js";
// @ts-ignore: a module of the dashboard, served beside this one
import { isRefusedCondition, request } from "./service.js";
// @ts-ignore: a module of the dashboard, served beside this one
import { byId, element } from "./text.js";

/** The steps, with their descriptions. */
const STEPS = [
  ["Read", "the first time: from the database"],
  ["Read again", "from the cache, and faster"],
  ["Update", "commits, and invalidates the entry"],
  ["Read", "the new value, from the database"],
  ["Read again", "the new value, from the cache"],
];

/** Pause between steps, so that a viewer can follow. */
const PAUSE_MS = 400;
/** Attempts of the last step: the relay may invalidate once more what was just filled. */
const TRIES_MAX = 8;
const SOURCES = /** @type {Readonly<Record<string, string>>} */ ({
  memory: "memory",
  redis: "Redis",
  database: "database",
});

/**
 * @typedef {object} Result
 * @property {string} source `memory`, `redis` or `database`; empty for a write.
 * @property {string} duration
 * @property {string} note
 * @property {boolean} [stored] True if the cache stored the value from the database.
 * @property {any} [user]
 * @property {string} [tag] The entity tag of the row.
 */

makeTutorial();
byId("inspect-key").placeholder = "users:1";
document.querySelector("label[for=token]")?.replaceChildren(
  "This service wants its admin token (",
  element("code", {}, "ADMIN_TOKEN"),
  ")",
);

/** Sets the form up. */
function makeTutorial() {
  const steps = STEPS.map(makeStep);
  byId("steps").replaceChildren(...steps.map(({ item }) => item));
  const form = byId("try");
  const button = form.querySelector("button");
  form.addEventListener("submit", async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    // Not `disabled`: that would take the keyboard's focus away.
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    for (const step of steps) step.clear();
    say("");
    try {
      say(await run(Number(byId("try-user").value), steps));
    } catch (error) {
      say(`Stopped: ${error instanceof Error ? error.message : error}`);
    } finally {
      button.ariaDisabled = null;
    }
  });
}

/**
 * @param {number} id
 * @param {ReturnType<typeof makeStep>[]} steps
 * @returns {Promise<string>} What there is to say at the end.
 */
async function run(id, steps) {
  const path = `/users/${id}`;
  // Makes the first read miss, whatever was read before.
  await request(`cache/entries/${encodeURIComponent(`users:${id}`)}`, { method: "DELETE" });
  const bio = `Written by the dashboard at ${new Date().toLocaleTimeString("en")}`;
  /** @type {Result | undefined} */
  let before;
  /** @type {Restore | undefined} */
  let restore;
  const leave = () => void restore?.();
  const actions = [
    async () => {
      const result = await read(path);
      before = result;
      return { ...result, note: readNote(result, "not cached: the database was asked") };
    },
    async () => {
      const result = await read(path);
      const missed = `asked the database again: ${whyMissed(result)}`;
      return { ...result, note: result.source === "database" ? missed : "the same, cached" };
    },
    async () => {
      if (before === undefined) throw new Error("nothing was read before");
      const { user, tag } = before;
      // Prepared before the answer, which a closed tab no longer gets.
      restore = restoring(path, user.bio, `${tag}, ${entityTag({ ...user, bio })}`);
      // Conditional on the row that was read, so that other writes are not overwritten.
      return await write(path, { bio, tag });
    },
    async () => {
      const result = await read(path);
      return { ...result, note: `${whichBio(result, bio)}${readNote(result, "")}` };
    },
    async () => {
      const { result, tries } = await readUntilCached(path);
      const again = tries > 1 ? `, at read ${tries}: the change feed had invalidated it too` : "";
      const cached = result.source === "database"
        ? `, from the database: ${whyMissed(result)}`
        : `, cached${again}`;
      return { ...result, note: whichBio(result, bio) + cached };
    },
  ];
  addEventListener("pagehide", leave);
  let isRestored = false;
  try {
    for (const [at, action] of actions.entries()) {
      if (at > 0) await pause();
      await steps[at]?.show(action);
    }
  } finally {
    removeEventListener("pagehide", leave);
    isRestored = await restore?.() ?? false;
  }
  return isRestored
    ? "Done. The bio is as it was."
    : "Done. Somebody else has changed the user meanwhile, which was left as it is.";
}

/** @typedef {() => Promise<boolean>} Restore */

/**
 * Restores the bio, unless another writer has changed the user since.
 *
 * ```text
 * 1. the page: writes on the condition of the old tag; the service has begun
 * 2. the tab is closed: the bio is written back, on the condition of the old tag or the new one
 * 3. the service: the row still has the old tag, and is locked by the first write
 * 4. the first write commits; the second looks again, and finds the new tag
 * ```
 *
 * @param {string} path
 * @param {string | null} bio
 * @param {string} tags Of the user as it was, and as this page writes it.
 * @returns {Restore}
 */
function restoring(path, bio, tags) {
  return async () => {
    try {
      const headers = { "if-match": tags };
      // `keepalive`: the browser sends it even after the page is closed.
      await request(path, { method: "PATCH", json: { bio }, headers, keepalive: true });
      return true;
    } catch (error) {
      if (isRefusedCondition(error)) return false;
      throw error;
    }
  };
}

/**
 * The note on a read after an invalidation.
 *
 * @param {Result} result
 * @param {string} missed
 */
function readNote({ source }, missed) {
  return source === "database"
    ? missed
    : `${missed === "" ? ", " : ""}cached by somebody else's read`;
}

/**
 * The reason why a read that should have hit did not.
 *
 * @param {Result} result
 */
function whyMissed({ stored }) {
  return stored ? "somebody else wrote to this user" : "the cache cannot be used now";
}

/**
 * @param {Result} result
 * @param {string} bio
 */
function whichBio({ user }, bio) {
  return user.bio === bio ? "the new bio" : "another bio";
}

/** @param {string[]} step */
function makeStep([label = "", expectation = ""]) {
  const what = element("span", { "class": "what" }, label);
  const result = element("span", { "class": "result" });
  const note = element("span", { "class": "note" }, expectation);
  const item = element("li", {}, what, result, note);
  return {
    item,
    clear() {
      result.replaceChildren();
      note.replaceChildren(expectation);
      delete item.dataset.state;
    },
    /** @param {() => Promise<Result>} action */
    async show(action) {
      item.dataset.state = "running";
      try {
        const { source, duration, note: text } = await action();
        const name = SOURCES[source];
        const badge = name === undefined
          ? element("span", { "class": "badge" }, "written")
          : element("span", { "class": "badge", "data-source": source }, name);
        result.replaceChildren(element("span", { "class": "took" }, duration), badge);
        note.replaceChildren(text);
      } finally {
        delete item.dataset.state;
        item.scrollIntoView({ block: "nearest" }); // a phone shows little beside the button
      }
    },
  };
}

/**
 * @param {string} path
 * @returns {Promise<Result>}
 */
async function read(path) {
  const response = await request(path);
  const { source, duration, data } = await response.json();
  const status = response.headers.get("cache-status") ?? "";
  const [, tier = source] = /detail=(\w+)/.exec(status) ?? [];
  const stored = status.includes("; stored");
  const tag = response.headers.get("etag") ?? "";
  return {
    source: tier,
    duration: duration.replace("ms", " ms"),
    note: "",
    stored,
    user: data,
    tag,
  };
}

/** @param {string} path */
async function readUntilCached(path) {
  for (let tries = 1;; tries++) {
    const result = await read(path);
    const over = result.source !== "database" || !result.stored;
    if (over || tries === TRIES_MAX) return { result, tries };
    await pause();
  }
}

/**
 * @param {string} path
 * @param {{ bio: string, tag: string | undefined }} change
 * @returns {Promise<Result>}
 */
async function write(path, { bio, tag }) {
  const startedAtMs = performance.now();
  const headers = tag === undefined ? {} : { "if-match": tag };
  const response = await request(path, { method: "PATCH", json: { bio }, headers });
  const { message } = await response.json();
  // Reads show the service's own time, which the answer to a write does not contain.
  const duration = `${(performance.now() - startedAtMs).toFixed(1)} ms round trip`;
  return { source: "", duration, note: message };
}

function pause() {
  return new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
}

/** @param {string} text */
function say(text) {
  const place = byId("try-outcome");
  place.replaceChildren(text);
  if (text !== "") place.scrollIntoView({ block: "nearest" });
}
