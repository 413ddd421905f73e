/**
 * The authority and path of a request, checked before anything else reads them.
 *
 * @module
 */

/** A name or an address, and a port. */
const AUTHORITY = /^(\[[0-9a-f:.]+\]|[a-z0-9_][a-z0-9._-]*)(:\d{1,5})?$/i;

/**
 * Checks the URL that Deno makes by joining `Host` and target unchecked: with `x/healthz?` as `Host`, the router
 * would find `/healthz` for any target. After this check, router, limits and counters can rely on `request.url`.
 */
export class Targets {
  /** The last authority that was valid: nearly always also that of the next request. */
  #known = "";

  /** Answers true if the URL agrees with the request line and `Host`. */
  isGood({ url, headers }: Request): boolean {
    const start = url.indexOf("//") + 2;
    const end = url.indexOf("/", start);
    if (end < 0) return false;
    const authority = url.slice(start, end);
    const host = headers.get("host");
    // A target that is a URL names its own authority, and a Host header may contain more than one.
    if (host !== null && host !== "" && host !== authority) return false;
    if (authority !== this.#known) {
      if (!AUTHORITY.test(authority) || !URL.canParse(`http://${authority}/`)) return false;
      this.#known = authority;
    }
    return !url.includes("#", end);
  }
}
