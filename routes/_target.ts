/**
 * Where a request is sent: one authority and one path, read once.
 *
 * @module
 */

/** A name or an address, and a port. */
const AUTHORITY = /^(\[[0-9a-f:.]+\]|[a-z0-9_][a-z0-9._-]*)(:\d{1,5})?$/i;

/**
 * Judges the URL that Deno makes of `Host` and target, which it joins unseen: with a `Host` of
 * `x/healthz?` the router would find `/healthz`, whatever is asked for. After this, `request.url` is the
 * one that router, limits and counters read.
 */
export class Targets {
  /** The authority that was found good last: nearly always that of the next request, too. */
  #known = "";

  /** Answers whether the URL says what the request line and `Host` say. */
  isGood({ url, headers }: Request): boolean {
    const start = url.indexOf("//") + 2;
    const end = url.indexOf("/", start);
    if (end < 0) return false;
    const authority = url.slice(start, end);
    const host = headers.get("host");
    // A target that is a URL names its own authority, and a Host may hold more than one.
    if (host !== null && host !== "" && host !== authority) return false;
    if (authority !== this.#known) {
      if (!AUTHORITY.test(authority) || !URL.canParse(`http://${authority}/`)) return false;
      this.#known = authority;
    }
    return !url.includes("#", end);
  }
}
