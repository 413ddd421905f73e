// @ts-check
/// <reference lib="dom" />
/**
 * Shows the entries of a key in the tiers, and invalidates them or everything.
 *
 * @module
 */
import { request } from "./service.js";
import { byId, bytesText, element, spanText } from "./text.js";

/** Sets the inspector up. Answers a function that shows a key. */
export function makeInspector() {
  const form = byId("inspect");
  const input = byId("inspect-key");
  /** @param {string} key */
  const look = (key) => {
    input.value = key;
    return show(() => inspect(key, look));
  };
  form.addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    void look(input.value.trim());
  });
  makeClearing(() => input.value === "" ? undefined : look(input.value));
  return look;
}

/**
 * @param {string} key
 * @param {(key: string) => Promise<void>} look
 */
async function inspect(key, look) {
  const path = `cache/entries/${encodeURIComponent(key)}`;
  const { memory, redis, redisReached } = await (await request(path)).json();
  const remove = element("button", { type: "button", "class": "danger" }, "Delete");
  remove.setAttribute("aria-label", `Delete ${key} from the cache`);
  remove.addEventListener("click", () =>
    void show(async () => {
      await request(path, { method: "DELETE" });
      const left = await inspect(key, look);
      byId("inspect-key").focus(); // the button that had it is gone
      return left;
    }));
  const head = element("div", { "class": "inspected-head" }, element("code", {}, key));
  if (memory === null && redis === null) {
    const text = redisReached ? "Not cached." : "Not in memory, and Redis cannot be asked now.";
    return [head, element("p", { "class": "empty", "data-absent": "" }, text)];
  }
  head.append(remove);
  return [
    head,
    element(
      "div",
      { "class": "tiers" },
      tier("Memory", "memory", memory),
      tier("Redis", "redis", redis),
    ),
  ];
}

/**
 * @param {string} name
 * @param {string} source
 * @param {any} held
 */
function tier(name, source, held) {
  const badge = element(
    "h3",
    {},
    element("span", { "class": "badge", "data-source": source }, name),
  );
  const box = element("div", { "class": "tier" }, badge);
  if (held === null) {
    box.append(element("p", { "class": "empty" }, "Not held."));
    return box;
  }
  const { ageMs, freshLeftMs, staleLeftMs, bytes, tags, negative, valid } = held;
  const rows = [
    ["Age", spanText(ageMs)],
    freshLeftMs > 0 ? ["Fresh for", spanText(freshLeftMs)] : ["Stale since", spanText(freshLeftMs)],
    ["Kept for", staleLeftMs > 0 ? spanText(staleLeftMs) : "past its grace"],
    ["Size", bytesText(bytes)],
    ["Tags", tags.length === 0 ? "none" : tags.join(", ")],
    ["Holds", negative ? "that there is none" : "a value"],
    ["Answers reads", valid ? "yes" : "no"],
  ];
  const list = element("dl", {});
  for (const [term = "", text = ""] of rows) {
    list.append(element("dt", {}, term), element("dd", {}, text));
  }
  box.append(list);
  return box;
}

/** @param {() => Promise<void> | undefined} cleared */
function makeClearing(cleared) {
  const dialog = byId("confirm");
  byId("clear").addEventListener("click", () => dialog.showModal());
  byId("confirm-no").addEventListener("click", () => dialog.close());
  byId("confirm-yes").addEventListener("click", () => {
    dialog.close();
    void show(async () => {
      const { message } = await (await request("cache", { method: "DELETE" })).json();
      await cleared();
      return [element("p", { "class": "empty" }, `${message}.`)];
    });
  });
}

/**
 * Shows the result of `work`, or its error.
 *
 * @param {() => Promise<Node[]>} work
 */
async function show(work) {
  const place = byId("inspected");
  try {
    place.replaceChildren(...await work());
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    place.replaceChildren(element("p", { "class": "problem" }, text));
  }
  place.scrollIntoView({ block: "nearest" });
}
