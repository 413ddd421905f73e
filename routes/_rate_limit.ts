/**
 * How much one client may ask for.
 *
 * @module
 */
import type { Context, MiddlewareHandler } from "hono";
import type { Client } from "./_client.ts";
import { tooManyRequests } from "./_errors.ts";

/** What is left to a client. */
export interface Allowance {
  /** Whether the request may go on. */
  readonly allowed: boolean;
  /** How many more may follow until it begins anew. */
  readonly remaining: number;
  /** Until it begins anew. */
  readonly resetMs: number;
  /** Whether this process alone counts, for now. */
  readonly local?: boolean;
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

/** Headers, in order. */
type HeaderList = readonly (readonly [name: string, value: string])[];

/** Paths that whoever watches over the service asks for, whatever else comes from its address. */
const EXEMPT: ReadonlySet<string> = new Set(["/healthz", "/readyz"]);

/** Answers 429 to a client that has used up its requests to all routes but those of the health. */
export function limitAll(
  limiter: RateLimiter,
  { clientOf, onRefused }: {
    readonly clientOf: Client;
    readonly onRefused: (context: Context) => void;
  },
): MiddlewareHandler {
  return async function limited(context, next) {
    if (EXEMPT.has(context.req.path)) return await next();
    const allowance = await limiter.take(clientOf(context.req.raw.headers, context.env));
    const headers = headersOf(limiter, allowance);
    if (!allowance.allowed) {
      onRefused(context);
      return tooManyRequests(Object.fromEntries(headers));
    }
    await next();
    tell(context, headers);
  };
}

/** Adds headers to the answer: there may be two limits. */
export function tell(context: Context, headers: HeaderList): void {
  for (const [name, value] of headers) context.header(name, value, { append: true });
}

/**
 * As the draft "RateLimit header fields for HTTP" (draft-ietf-httpapi-ratelimit-headers-10) has them. The
 * parameter `local` is our own: other instances do not know of these requests.
 */
export function headersOf(
  { name, limit, windowMs }: RateLimiter,
  { allowed, remaining, resetMs, local }: Allowance,
): HeaderList {
  const resetS = String(Math.max(1, Math.ceil(resetMs / 1_000)));
  const mark = local ? ";local" : "";
  return [
    ["ratelimit-policy", `"${name}";q=${limit};w=${Math.ceil(windowMs / 1_000)}${mark}`],
    ["ratelimit", `"${name}";r=${remaining};t=${resetS}`],
    ...(allowed ? [] : [["retry-after", resetS] as const]),
  ];
}
