/**
 * Answers made of lookups. The data goes out as the text that the cache holds: it is never parsed.
 *
 * @module
 */
import type { Lookup } from "../lookup.ts";
import type { Clock } from "../runtime.ts";
import { cacheStatus, secondsLeft } from "./cache_status.ts";
import { matchesEtag, weakEtag } from "./etag.ts";

/** How many lookups' answers are kept: with what follows, at most some 15 MB. */
const KEPT_MAX = 4_096;
/** Answers with more data than this are made anew, in UTF-16 code units. */
const KEPT_LENGTH_MAX = 2_048;

/** The part that answers made of one lookup have in common, for one second of its life. */
export interface Head {
  /** The rest of the lookup's life, in whole seconds. */
  readonly ttlSeconds: number;
  /** The entity tag of the data. */
  readonly etag: string;
  /** Status and headers of a 200. */
  readonly init: { readonly headers: Record<string, string> };
  /** The last answer, and what was said in it beside the data. */
  last?: { readonly variant: string; readonly response: Response };
}

/** Makes answers of lookups. */
export class Answers {
  readonly #clock: Clock;
  readonly #headers: Readonly<Record<string, string>>;
  /**
   * A memory hit gets the same lookup object every time. Making its headers anew for each answer would
   * cost a fifth of the throughput, and having Deno check them again another tenth, so the whole answer
   * is kept for as long as it stays true, and cloned.
   */
  #kept = new WeakMap<Lookup, Head>();
  #keptCount = 0;

  /** `clock` tells what is left of an entry's life. `headers` are those of each answer. */
  constructor(clock: Clock, headers: Readonly<Record<string, string>> = {}) {
    this.#clock = clock;
    this.#headers = headers;
  }

  /** The head of an answer made of `lookup` now. */
  headOf(lookup: Lookup): Head {
    return lookup.source === "memory" ? this.#recall(lookup) : this.#make(lookup);
  }

  /** 304, if the client that sent `ifNoneMatch` holds the data already. */
  unchanged(
    { etag, init }: Pick<Head, "etag" | "init">,
    ifNoneMatch: string | null,
  ): Response | undefined {
    if (ifNoneMatch === null || !matchesEtag(ifNoneMatch, etag)) return undefined;
    const { "content-type": _, ...headers } = init.headers;
    return new Response(null, { status: 304, headers });
  }

  /** 200, with a body that differs between lookups and `variant`s, and in nothing else. */
  whole(lookup: Lookup, head: Head, variant: string, bodyOf: (data: string) => string): Response {
    if (head.last?.variant === variant) return head.last.response.clone();
    const text = lookup.text ?? "null";
    const response = new Response(bodyOf(text), head.init);
    if (lookup.source !== "memory" || text.length > KEPT_LENGTH_MAX) return response;
    head.last = { variant, response };
    return response.clone();
  }

  /** The headers of an answer made of data with that tag. */
  headersOf(etag: string, status: string): Record<string, string> {
    return {
      "content-type": "application/json",
      // Whoever stores the answer asks again before using it: a write cannot reach its copy.
      "cache-control": "no-cache",
      "etag": etag,
      "cache-status": status,
      ...this.#headers,
    };
  }

  /** The `Cache-Status` of an answer made of `lookup` now. */
  status(lookup: Lookup): string {
    return cacheStatus(lookup, secondsLeft(lookup, this.#clock.now()));
  }

  #recall(lookup: Lookup): Head {
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
  ): Head {
    const headers = this.headersOf(etag, cacheStatus(lookup, ttlSeconds));
    return { ttlSeconds, etag, init: { headers } };
  }
}
