/**
 * Responses made from lookups. The data is the cached text: it is never parsed.
 *
 * @module
 */
import type { Lookup } from "../lookup.ts";
import type { Clock } from "../runtime.ts";
import { cacheStatus, secondsLeft } from "./cache_status.ts";
import { matchesEtag, weakEtag } from "./etag.ts";

/** Limit of lookups whose response is kept: with the next limit, at most some 15 MB. */
const KEPT_MAX = 4_096;
/** A response with more data than this is not kept. In UTF-16 code units. */
const KEPT_LENGTH_MAX = 2_048;

/** The common part of responses from one lookup, valid for one second. */
export interface Head {
  /** The rest of the lookup's fresh life, in whole seconds. */
  readonly ttlSeconds: number;
  /** The entity tag of the data. */
  readonly etag: string;
  /** Status and headers of a 200. */
  readonly init: { readonly headers: Record<string, string> };
  /** The last response, and its variable part besides the data. */
  last?: { readonly variant: string; readonly response: Response };
}

/** Makes responses from lookups. */
export class Answers {
  readonly #clock: Clock;
  readonly #headers: Readonly<Record<string, string>>;
  /**
   * Every memory hit answers the same lookup object. New headers for each response would cost a fifth of the
   * throughput, and Deno's checks of them another tenth. So the whole response is kept while it is valid, and
   * cloned.
   */
  #kept = new WeakMap<Lookup, Head>();
  #keptCount = 0;

  /** Makes responses with `headers`; `clock` tells the rest of an entry's life. */
  constructor(clock: Clock, headers: Readonly<Record<string, string>> = {}) {
    this.#clock = clock;
    this.#headers = headers;
  }

  /** The common part for `lookup` at this time. */
  headOf(lookup: Lookup): Head {
    return lookup.source === "memory" ? this.#recall(lookup) : this.#make(lookup);
  }

  /** A 304 if the client that sent `ifNoneMatch` already has the data. */
  unchanged(
    { etag, init }: Pick<Head, "etag" | "init">,
    ifNoneMatch: string | null,
  ): Response | undefined {
    if (ifNoneMatch === null || !matchesEtag(ifNoneMatch, etag)) return undefined;
    const { "content-type": _, ...headers } = init.headers;
    return new Response(null, { status: 304, headers });
  }

  /** A 200 whose body depends only on the lookup and `variant`. */
  whole(lookup: Lookup, head: Head, variant: string, bodyOf: (data: string) => string): Response {
    if (head.last?.variant === variant) return head.last.response.clone();
    const text = lookup.text ?? "null";
    const response = new Response(bodyOf(text), head.init);
    if (lookup.source !== "memory" || text.length > KEPT_LENGTH_MAX) return response;
    head.last = { variant, response };
    return response.clone();
  }

  /** The headers of a response whose data has this tag. */
  headersOf(etag: string, status: string): Record<string, string> {
    return {
      "content-type": "application/json",
      // A browser or proxy must revalidate before each use, since an invalidation cannot reach its copy.
      "cache-control": "no-cache",
      "etag": etag,
      "cache-status": status,
      ...this.#headers,
    };
  }

  /** The `Cache-Status` for `lookup` at this time. */
  status(lookup: Lookup): string {
    return cacheStatus(lookup, secondsLeft(lookup, this.#clock.now()));
  }

  #recall(lookup: Lookup): Head {
    const ttlSeconds = secondsLeft(lookup, this.#clock.now());
    const kept = this.#kept.get(lookup);
    if (kept !== undefined && kept.ttlSeconds === ttlSeconds) return kept;
    // Emptied when full: the limit of the memory tier does not count the responses kept here.
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
