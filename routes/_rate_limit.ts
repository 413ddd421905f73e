/**
 * Limits on the requests of one client.
 *
 * @module
 */
import type { Context, MiddlewareHandler } from "hono";
import type { Client } from "./_client.ts";
import { tooManyRequests } from "./_errors.ts";

/** The remaining allowance of a client. */
export interface Allowance {
  /** True if the request is allowed. */
  readonly allowed: boolean;
  /** Number of requests that remain in this window. */
  readonly remaining: number;
  /** Time until the next window. */
  readonly resetMs: number;
  /** True while only this process counts. */
  readonly local?: boolean;
}

/** Counts the requests of clients. */
export interface RateLimiter {
  /** The name in the headers of answers. */
  readonly name: string;
  /** Number of requests allowed in {@linkcode RateLimiter.windowMs}. */
  readonly limit: number;
  /** Length of a window. */
  readonly windowMs: number;
  /** Counts one request of a client. Must not reject: if it cannot count, it allows the request. */
  take(client: string): Promise<Allowance>;
}

/** Headers, in order. */
export type HeaderList = readonly (readonly [name: string, value: string])[];

/** Paths for monitoring, which may share an address with clients. */
const EXEMPT: ReadonlySet<string> = new Set(["/healthz", "/readyz"]);

/** Answers 429 to a client that has used up its requests, on all routes except those of health. */
export function limitAll(
  limiter: RateLimiter,
  clientOf: Client,
  onRefused: (context: Context) => void,
): MiddlewareHandler {
  return async function limited(context, next) {
    if (EXEMPT.has(context.req.path)) return await next();
    const headers = await counted(limiter, clientOf(context.req.raw.headers, context.env));
    if (headers instanceof Response) {
      onRefused(context);
      return headers;
    }
    await next();
    tell(context, headers);
  };
}

/** Counts a request. Answers the headers that tell the client, or the refusal. */
export async function counted(
  limiter: RateLimiter,
  client: string,
): Promise<HeaderList | Response> {
  const allowance = await limiter.take(client);
  const headers = headersOf(limiter, allowance);
  return allowance.allowed ? headers : tooManyRequests(Object.fromEntries(headers));
}

/** Adds headers to the answer, in addition to those of another limit. */
export function tell(context: Context, headers: HeaderList): void {
  for (const [name, value] of headers) context.header(name, value, { append: true });
}

/**
 * Headers as in the draft "RateLimit header fields for HTTP" (draft-ietf-httpapi-ratelimit-headers-10). The
 * parameter `local` is our own: other instances do not count these requests.
 */
function headersOf(
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
