/**
 * Makes answers of lookups. The data goes out as the text that the cache holds: it is never parsed.
 *
 * @module
 */
import type { Context } from "hono";
import type { Clock, Lookup } from "../cache/mod.ts";
import { cacheStatus, secondsLeft, worstOf } from "./_cache_status.ts";
import { matchesEtag, weakEtag } from "./_etag.ts";
import type { Latencies } from "./_latencies.ts";

/** How many lookups' answers are kept: with what follows, at most some 15 MB. */
const KEPT_MAX = 4_096;
/** Answers with more data than this are made anew, in UTF-16 code units. */
const KEPT_LENGTH_MAX = 2_048;

/** What answers made of one lookup have in common, for one second of its life. */
interface Kept {
  readonly ttlSeconds: number;
  readonly etag: string;
  readonly init: { readonly headers: Record<string, string> };
  /** The last answer, and the duration that it tells: nearly every hit takes 0.0 ms. */
  last?: { readonly duration: string; readonly response: Response };
}

/** What an answer is made of. */
export interface Answer {
  /** When the request's handler began, on the monotonic clock. */
  readonly startedAtMs: number;
  /**
   * Members between `duration` and `data`, as JSON, with a comma after each. The same for every answer
   * made of one lookup.
   */
  readonly members?: string;
}

/** Answers requests with lookups. */
export class Answers {
  readonly #clock: Clock;
  readonly #latencies: Latencies;
  /**
   * A memory hit gets the same lookup object every time. Making its headers anew for each answer would
   * cost a fifth of the throughput, and having Deno check them again another tenth, so the whole answer
   * is kept for as long as it stays true, and cloned.
   */
  #kept = new WeakMap<Lookup, Kept>();
  #keptCount = 0;

  /** `clock` tells durations, which `latencies` are told, and what is left of an entry's life. */
  constructor(clock: Clock, latencies: Latencies) {
    this.#clock = clock;
    this.#latencies = latencies;
  }

  /** The monotonic time, for {@linkcode Answer.startedAtMs}. */
  now(): number {
    return this.#clock.monotonicNow();
  }

  /** Answers with the value of `lookup`, which has one: 200, or 304 if the client holds it already. */
  one(context: Context, lookup: Lookup, answer: Answer): Response {
    const kept = lookup.source === "memory" ? this.#recall(lookup) : this.#make(lookup);
    const ifNoneMatch = context.req.raw.headers.get("if-none-match");
    if (ifNoneMatch !== null && matchesEtag(ifNoneMatch, kept.etag)) {
      return notModified(kept.init.headers);
    }
    const duration = this.#duration(lookup, answer.startedAtMs);
    if (kept.last?.duration === duration) return kept.last.response.clone();
    const text = lookup.text ?? "null";
    const response = new Response(bodyOf(lookup, text, { ...answer, duration }), kept.init);
    if (lookup.source !== "memory" || text.length > KEPT_LENGTH_MAX) return response;
    kept.last = { duration, response };
    return response.clone();
  }

  /** Answers with the values of `lookups` as an array; those that do not exist are left out. */
  many(context: Context, lookups: readonly Lookup[], answer: Answer): Response {
    const texts = lookups.map(({ text }) => text).filter((text) => text !== null);
    const etag = weakEtag(texts);
    const worst = worstOf(lookups);
    const headers = headersOf(etag, worst === undefined ? "" : this.status(worst));
    const ifNoneMatch = context.req.raw.headers.get("if-none-match");
    if (ifNoneMatch !== null && matchesEtag(ifNoneMatch, etag)) return notModified(headers);
    const duration = this.#duration(worst, answer.startedAtMs);
    return new Response(bodyOf(worst, `[${texts.join(",")}]`, { duration }), { headers });
  }

  /** The `Cache-Status` of an answer made of `lookup` now. */
  status(lookup: Lookup): string {
    return cacheStatus(lookup, secondsLeft(lookup, this.#clock.now()));
  }

  #duration(lookup: Lookup | undefined, startedAtMs: number): string {
    const durationMs = this.#clock.monotonicNow() - startedAtMs;
    if (lookup !== undefined) this.#latencies.note(lookup.source, durationMs);
    return durationMs.toFixed(1);
  }

  #recall(lookup: Lookup): Kept {
    const ttlSeconds = secondsLeft(lookup, this.#clock.now());
    const kept = this.#kept.get(lookup);
    if (kept !== undefined && kept.ttlSeconds === ttlSeconds) return kept;
    // Bounded by starting over: the memory tier's bound does not count what hangs on its entries here.
    if (kept === undefined && ++this.#keptCount > KEPT_MAX) {
      this.#kept = new WeakMap();
      this.#keptCount = 1;
    }
    const made = this.#make(lookup, ttlSeconds, kept?.etag);
    this.#kept.set(lookup, made);
    return made;
  }

  #make(
    lookup: Lookup,
    ttlSeconds: number = secondsLeft(lookup, this.#clock.now()),
    etag: string = weakEtag([lookup.text ?? ""]),
  ): Kept {
    const headers = headersOf(etag, cacheStatus(lookup, ttlSeconds));
    return { ttlSeconds, etag, init: { headers } };
  }
}

function bodyOf(
  lookup: Lookup | undefined,
  data: string,
  { duration, members = "" }: { readonly duration: string; readonly members?: string },
): string {
  const source = lookup?.source === "load" ? "database" : "cache";
  return `{"source":"${source}","duration":"${duration}ms",${members}"data":${data}}`;
}

function headersOf(etag: string, status: string): Record<string, string> {
  return {
    "content-type": "application/json",
    // Whoever stores the answer asks again before using it: a write here cannot reach its copy.
    "cache-control": "no-cache",
    "etag": etag,
    "cache-status": status,
  };
}

function notModified({ "content-type": _, ...headers }: Record<string, string>): Response {
  return new Response(null, { status: 304, headers });
}
