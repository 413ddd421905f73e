/**
 * A cache in front of handlers that answer with JSON.
 *
 * @module
 */
import type { Context, MiddlewareHandler } from "hono";
import { createHash } from "node:crypto";
import type { Cache } from "../cache.ts";
import { shown } from "../errors.ts";
import { JsonText } from "../json_text.ts";
import { isKey } from "../keys.ts";
import type { LoadContext } from "../load_limit.ts";
import type { Lookup } from "../lookup.ts";
import { assertEntryOptions, assertOptions, type Types } from "../options.ts";
import { type Clock, systemRuntime } from "../runtime.ts";
import { Answers } from "./answers.ts";
import { responseApart } from "./apart.ts";

/** Options of {@linkcode cached}. Durations are milliseconds. */
export interface CachedOptions {
  /** The key of a request. Default: its path, and its query sorted by name. */
  readonly key?: (context: Context) => string;
  /** Names by which responses can be invalidated together with others. */
  readonly tags?: readonly string[] | ((context: Context) => readonly string[]);
  /**
   * More tags, derived from the JSON of a response. The first response for a key in a process is not stored,
   * because its tags were not known before the handler ran.
   */
  readonly tagsOf?: (answer: unknown) => readonly string[];
  /** Fresh life of a response. Default: that of the cache. */
  readonly ttlMs?: number;
  /**
   * Separates the responses of different readers: names of headers, or a function that returns a text. With it,
   * requests that have `Authorization` or `Cookie` are cached too; without it, they bypass the cache.
   */
  readonly vary?: readonly string[] | ((context: Context) => string);
  /** The clock. Default: the system's. */
  readonly clock?: Clock;
}

/** The options of {@linkcode cached}. */
const CACHED: Types<keyof CachedOptions> = {
  key: "function",
  tags: true,
  tagsOf: "function",
  ttlMs: true,
  vary: true,
  clock: "object",
};

/** The longest response that is stored, in bytes. */
const BYTES_MAX = 1024 * 1024;
/** Marks a response that must not be stored: each request gets its own. */
const OWN = new JsonText('{"lookaside":"not stored"}');
const JSON_TYPE = /^application\/json\s*(?:;\s*charset=utf-8\s*)?$/i;
const UNSTORED = /\b(?:no-store|private)\b/i;
/** Headers that a stored response has anew, or needs no more. */
const REPLACED: ReadonlySet<string> = new Set([
  ...["age", "cache-control", "content-length", "content-type"],
  ...["date", "etag", "expires", "last-modified"],
]);

/**
 * Makes a middleware that answers from the cache, and runs the handler once for simultaneous requests, on any
 * number of machines.
 *
 * It stores responses to GET and HEAD with status 200 and up to 1 MiB of JSON, and 404, which is then answered by
 * the app's `notFound`. Every other response passes unchanged: streams, errors, responses with `Cache-Control:
 * no-store` or `private`, and those whose handler sets headers that a stored response would lack, as `Link`,
 * `Set-Cookie`, or a `Vary` that the option does not name. Set headers in a middleware around this one instead.
 *
 * @throws {TypeError} An option is unknown or has another type.
 * @throws {RangeError} `ttlMs` is not a number of at least 0.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Hono } from "hono";
 * import { Cache } from "@lookaside/cache";
 * import { cached } from "@lookaside/cache/hono";
 *
 * await using cache = new Cache();
 * const app = new Hono();
 * const tags = ["orders"];
 * app.get("/orders", cached(cache, { tags }), (context) => context.json([{ id: 1 }]));
 * await app.request("/orders");
 * await cache.invalidateTags("orders");
 * const fresh = await app.request("/orders");
 * assert.match(fresh.headers.get("cache-status") ?? "", /fwd=uri-miss/);
 * ```
 */
export function cached(
  cache: Pick<Cache, "getOrLoad">,
  options: CachedOptions = {},
): MiddlewareHandler {
  assertOptions(options, CACHED);
  const { ttlMs, tags = [], vary, clock = systemRuntime.clock } = options;
  for (const [name, value] of Object.entries({ tags, vary: vary ?? [] })) {
    if (typeof value === "function" || Array.isArray(value)) continue;
    throw new TypeError(`Cannot use ${name} ${shown(value)}: it must be a list or a function`);
  }
  if (ttlMs !== undefined) assertEntryOptions({ ttlMs });
  const answers = new Answers(clock, Array.isArray(vary) ? { "vary": vary.join(", ") } : {});
  const ttlOf = (value: JsonText) => value === OWN ? 0 : ttlMs;
  const { tagsOf } = options;
  const common = {
    ttlMs: ttlOf,
    ...(tagsOf === undefined ? {} : {
      tagsOf: (value: JsonText) => value === OWN ? [] : tagsOf(JSON.parse(value.text)),
    }),
  };
  const fixed = typeof tags === "function" ? undefined : { ...common, tags };
  const isPrivate = ({ headers }: Request) => headers.has("authorization") || headers.has("cookie");

  return async function answerFromCache(context, next) {
    const { raw } = context.req;
    const isRead = raw.method === "GET" || raw.method === "HEAD";
    if (!isRead || (vary === undefined && isPrivate(raw))) return await next();
    let handled = false;
    let before: Headers | undefined;
    const load = async ({ stale }: LoadContext) => {
      // An old value can be replaced only in the background: the client already has it.
      if (stale !== undefined) {
        const response = await responseApart(context, answerFromCache);
        return response === undefined ? OWN : await storableOf(response, { vary });
      }
      handled = true;
      if (context.req.routeIndex > 0) before = new Headers(context.res.headers);
      await next();
      return await storableOf(context.res, { vary, before });
    };
    const entry = fixed ?? { ...common, tags: typeof tags === "function" ? tags(context) : tags };
    const lookup = await cache.getOrLoad<JsonText>(keyOf(context, options), load, entry);
    // A stale answer is sent while the handler runs in the background, for later requests.
    const isHandled = handled && lookup.source === "load";
    const isOwn = lookup.text === OWN.text;
    if (isHandled && (isOwn || lookup.text === null)) return; // the handler's response, unchanged
    if (isOwn) return await next();
    if (lookup.text === null) {
      const response = await context.notFound();
      response.headers.set("cache-status", answers.status(lookup));
      return response;
    }
    const response = answerOf(answers, lookup, raw.headers.get("if-none-match"));
    if (!handled) return response;
    if (isHandled) await context.res.body?.cancel(); // the cache has read it
    // Only the headers that middleware had set before are added to the response, as to one from the cache.
    context.res = undefined;
    if (before !== undefined) context.res = new Response(null, { headers: before });
    context.res = response;
  };
}

function answerOf(answers: Answers, lookup: Lookup, ifNoneMatch: string | null): Response {
  const head = answers.headOf(lookup);
  return answers.unchanged(head, ifNoneMatch) ?? answers.whole(lookup, head, "", asItIs);
}

function asItIs(text: string): string {
  return text;
}

/** The part of a response that is stored: its JSON, `undefined` for a 404, or {@linkcode OWN} for nothing. */
async function storableOf(response: Response, around: Around): Promise<JsonText | undefined> {
  const { status, headers } = response;
  const isKept = !UNSTORED.test(headers.get("cache-control") ?? "") &&
    [...headers].every(([name, value]) => isDispensable(name, value, around));
  if (status === 404 && isKept) return undefined;
  const isJson = JSON_TYPE.test(headers.get("content-type") ?? "");
  if (status !== 200 || !isKept || !isJson) return OWN;
  if (Number(headers.get("content-length")) > BYTES_MAX) return OWN;
  return await textWithin(response.clone().body);
}

/** The headers that were set before a response was made, and what its key depends on. */
interface Around {
  readonly vary: CachedOptions["vary"] | undefined;
  readonly before?: Headers | undefined;
}

/** True if a stored response says as much without this header. */
function isDispensable(name: string, value: string, { vary, before }: Around): boolean {
  if (REPLACED.has(name) || before?.get(name) === value) return true;
  if (name !== "vary") return false;
  const known = ["accept-encoding", before?.get("vary") ?? "", ...Array.isArray(vary) ? vary : []];
  const names = new Set(known.join().toLowerCase().split(/[\s,]+/));
  return value.toLowerCase().split(/[\s,]+/).every((each) =>
    names.has(each) || typeof vary === "function" && each !== "*"
  );
}

/** The text of a body that is short enough; the other half of the clone goes on to the client. */
async function textWithin(body: ReadableStream<Uint8Array> | null): Promise<JsonText> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let size = 0;
  let text = "";
  try {
    for await (const chunk of body ?? []) {
      size += chunk.byteLength;
      if (size > BYTES_MAX) return OWN;
      text += decoder.decode(chunk, { stream: true });
    }
    text += decoder.decode();
    JSON.parse(text); // others will read it, so it must be JSON
    return new JsonText(text);
  } catch (_error) {
    return OWN; // cut off, or not JSON: only this reader gets it
  }
}

/** The key of a response. It is hashed if the cache does not accept it, or if it could be confused with another. */
function keyOf(context: Context, { key, vary }: CachedOptions): string {
  const { raw } = context.req;
  const asked = key === undefined ? addressOf(raw.url) : key(context);
  const reader = typeof vary === "function"
    ? [vary(context)]
    : vary?.map((name) => raw.headers.get(name)) ?? [];
  if (reader.length > 0) return `http:#${hashOf(JSON.stringify([asked, ...reader]))}`;
  const name = `http:${asked}`;
  return isKey(name) ? name : `http:#${hashOf(asked)}`;
}

/** The path and the query, sorted by name: `/orders?a=1&b=2`. The order of equal names may matter, so it stays. */
function addressOf(url: string): string {
  const start = url.indexOf("/", "https://".length);
  const end = url.indexOf("?", start);
  if (end < 0 || !url.includes("&", end)) return url.slice(start);
  const named = url.slice(end + 1).split("&").map((text) => ({ text, name: nameOf(text) }));
  named.sort((a, b) => a.name === b.name ? 0 : a.name < b.name ? -1 : 1);
  return `${url.slice(start, end)}?${named.map(({ text }) => text).join("&")}`;
}

/** The decoded name of a parameter. */
function nameOf(parameter: string): string {
  const [name = ""] = parameter.split("=", 1);
  try {
    return decodeURIComponent(name.replaceAll("+", " "));
  } catch (error) {
    if (error instanceof URIError) return name;
    throw error;
  }
}

function hashOf(text: string): string {
  return createHash("sha256").update(text, "utf8").digest("hex");
}
