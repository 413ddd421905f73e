/**
 * Makes the service's responses from lookups.
 *
 * @module
 */
import type { Context } from "hono";
import { Answers as Heads, weakEtag, worstOf } from "../cache/hono/mod.ts";
import type { Clock, Lookup } from "../cache/mod.ts";
import type { Latencies } from "../cache/dashboard/mod.ts";

/** The parts of a response. */
export interface Answer {
  /** The start of the request's handler, on the monotonic clock. */
  readonly startedAtMs: number;
  /**
   * Members between `duration` and `data`, as JSON, each with a comma after it. The same for every response from
   * one lookup.
   */
  readonly members?: string;
}

/** Answers requests with lookups: `{"source":"cache","duration":"0.0ms","data":…}`. */
export class Answers {
  readonly #clock: Clock;
  readonly #latencies: Latencies;
  readonly #heads: Heads;

  /** @param clock For durations, which `latencies` records, and for the rest of an entry's life. */
  constructor(clock: Clock, latencies: Latencies) {
    this.#clock = clock;
    this.#latencies = latencies;
    this.#heads = new Heads(clock);
  }

  /** The monotonic time, for {@linkcode Answer.startedAtMs}. */
  now(): number {
    return this.#clock.monotonicNow();
  }

  /** Answers with the value of `lookup`, which must exist: 200, or 304 if the client already has it. */
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

  /** Answers with the values of `lookups` as an array, without those that do not exist. */
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

  /** The `Cache-Status` for `lookup` at this time. */
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
