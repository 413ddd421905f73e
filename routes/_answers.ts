/**
 * Makes answers of lookups, in the words of the service.
 *
 * @module
 */
import type { Context } from "hono";
import { Answers as Heads, weakEtag, worstOf } from "../cache/hono/mod.ts";
import type { Clock, Lookup } from "../cache/mod.ts";
import type { Latencies } from "../cache/dashboard/mod.ts";

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

/** Answers requests with lookups: `{"source":"cache","duration":"0.0ms","data":…}`. */
export class Answers {
  readonly #clock: Clock;
  readonly #latencies: Latencies;
  readonly #heads: Heads;

  /** `clock` tells durations, which `latencies` are told, and what is left of an entry's life. */
  constructor(clock: Clock, latencies: Latencies) {
    this.#clock = clock;
    this.#latencies = latencies;
    this.#heads = new Heads(clock);
  }

  /** The monotonic time, for {@linkcode Answer.startedAtMs}. */
  now(): number {
    return this.#clock.monotonicNow();
  }

  /** Answers with the value of `lookup`, which has one: 200, or 304 if the client holds it already. */
  one(context: Context, lookup: Lookup, answer: Answer): Response {
    const head = this.#heads.headOf(lookup);
    const unchanged = this.#heads.unchanged(head, context.req.raw.headers.get("if-none-match"));
    if (unchanged !== undefined) return unchanged;
    const duration = this.#duration(lookup, answer.startedAtMs);
    return this.#heads.whole(
      ...[lookup, head, duration] as const,
      (data) => bodyOf(lookup, data, { ...answer, duration }),
    );
  }

  /** Answers with the values of `lookups` as an array; those that do not exist are left out. */
  many(context: Context, lookups: readonly Lookup[], answer: Answer): Response {
    const texts = lookups.map(({ text }) => text).filter((text) => text !== null);
    const etag = weakEtag(texts);
    const worst = worstOf(lookups);
    const headers = this.#heads.headersOf(etag, worst === undefined ? "" : this.status(worst));
    const ifNoneMatch = context.req.raw.headers.get("if-none-match");
    const unchanged = this.#heads.unchanged({ etag, init: { headers } }, ifNoneMatch);
    if (unchanged !== undefined) return unchanged;
    const duration = this.#duration(worst, answer.startedAtMs);
    return new Response(bodyOf(worst, `[${texts.join(",")}]`, { duration }), { headers });
  }

  /** The `Cache-Status` of an answer made of `lookup` now. */
  status(lookup: Lookup): string {
    return this.#heads.status(lookup);
  }

  #duration(lookup: Lookup | undefined, startedAtMs: number): string {
    const durationMs = this.#clock.monotonicNow() - startedAtMs;
    if (lookup !== undefined) this.#latencies.note(lookup.source, durationMs);
    return durationMs.toFixed(1);
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
