/**
 * How much one client may ask for.
 *
 * @module
 */
import type { Context, Hono, MiddlewareHandler } from "hono";
import { getPath } from "hono/utils/url";
import { isIP } from "node:net";
import { tooManyRequests } from "./_errors.ts";

/** What is left to a client. */
export interface Allowance {
  /** Whether the request may go on. */
  readonly allowed: boolean;
  /** How many more may follow until it begins anew. */
  readonly remaining: number;
  /** Until it begins anew. */
  readonly resetMs: number;
}

/** Counts the requests of clients. */
export interface RateLimiter {
  /** What it is called in the headers of answers. */
  readonly name: string;
  /** How many requests are allowed in {@linkcode RateLimiter.windowMs}. */
  readonly limit: number;
  /** How long until counting begins anew. */
  readonly windowMs: number;
  /** Counts one more request of a client. Must not reject: whoever can't count lets through. */
  take(client: string): Promise<Allowance>;
}

/** What the server tells of a connection beside the request. */
interface Connection {
  readonly remoteAddr?: { readonly hostname?: string };
}

/** Paths that whoever watches over the service asks for, whatever else comes from its address. */
const EXEMPT: ReadonlySet<string> = new Set(["/healthz", "/readyz"]);

/** A client's part of an IPv6 address: a network of 64 bits is one household or one machine. */
const IPV6_GROUPS = 4;

/** Answers 429 to a client that has used up its requests to the routes that this stands before. */
export function limitRate(limiter: RateLimiter, trustedProxies: number): MiddlewareHandler {
  return async function limited(context, next) {
    const client = clientOf(context.req.raw.headers, context.env, trustedProxies);
    const allowance = await limiter.take(client);
    if (!allowance.allowed) return tooManyRequests(headersOf(limiter, allowance));
    await next();
    tell(context, headersOf(limiter, allowance));
  };
}

type Fetch = Hono["fetch"];

/**
 * The same for all routes but those of its health. Around them and not before them: without a limit,
 * nothing is in their way.
 */
export function limitAll(
  fetch: Fetch,
  limiter: RateLimiter,
  { trustedProxies, onRefused }: {
    readonly trustedProxies: number;
    readonly onRefused: (request: Request) => void;
  },
): Fetch {
  return async function limited(request, connection, ...rest) {
    // As Hono reads it: under some Hosts `URL` would throw.
    if (EXEMPT.has(getPath(request))) return await fetch(request, connection, ...rest);
    const allowance = await limiter.take(clientOf(request.headers, connection, trustedProxies));
    const headers = Object.entries(headersOf(limiter, allowance));
    if (!allowance.allowed) onRefused(request);
    const response = allowance.allowed
      ? await fetch(request, connection, ...rest)
      : tooManyRequests();
    for (const [name, value] of headers) response.headers.append(name, value);
    return response;
  };
}

/**
 * Who sends a request: the address that the connection comes from or, behind proxies that are trusted,
 * the one that the outermost of them saw. What stands before that in `X-Forwarded-For` may be made up.
 */
function clientOf(headers: Headers, connection: unknown, trustedProxies: number): string {
  const seen = trustedProxies === 0
    ? undefined
    : headers.get("x-forwarded-for")?.split(",").at(-trustedProxies)?.trim();
  const address = seen !== undefined && isIP(seen) > 0
    ? seen
    : (connection as Connection | undefined)?.remoteAddr?.hostname ?? "unknown";
  return isIP(address) === 6 ? networkOf(address) : address;
}

function networkOf(address: string): string {
  const text = address.replace(/%.*$/, "");
  // As IPv4 over IPv6: without this, all of them were one network.
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(text);
  if (mapped?.[1] !== undefined) return mapped[1];
  const [head = "", tail] = new URL(`http://[${text}]`).hostname.slice(1, -1).split("::");
  const groups = (part: string) => part === "" ? [] : part.split(":");
  const [first, last] = [groups(head), groups(tail ?? "")];
  const zeros = tail === undefined ? 0 : 8 - first.length - last.length;
  const all = [...first, ...Array<string>(zeros).fill("0"), ...last];
  return `${all.slice(0, IPV6_GROUPS).join(":")}::/64`;
}

function tell(context: Context, headers: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(headers)) context.header(name, value);
}

/** As the draft "RateLimit header fields for HTTP" (draft-ietf-httpapi-ratelimit-headers-10) has them. */
function headersOf(
  { name, limit, windowMs }: RateLimiter,
  { allowed, remaining, resetMs }: Allowance,
): Record<string, string> {
  const resetS = String(Math.max(1, Math.ceil(resetMs / 1_000)));
  return {
    "ratelimit-policy": `"${name}";q=${limit};w=${Math.ceil(windowMs / 1_000)}`,
    "ratelimit": `"${name}";r=${remaining};t=${resetS}`,
    ...(allowed ? {} : { "retry-after": resetS }),
  };
}
