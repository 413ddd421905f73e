/**
 * Who may write and look inside: decided for each request.
 *
 * @module
 */
import type { Context, MiddlewareHandler, Next } from "hono";
import { bearerAuth } from "hono/bearer-auth";
import { HTTPException } from "hono/http-exception";
import { timingSafeEqual } from "hono/utils/buffer";
import { closed, foreignOrigin, notLocal, tooManyRequests, UNAUTHORIZED } from "./_errors.ts";
import type { Client } from "./_client.ts";
import { headersOf, type RateLimiter, tell } from "./_rate_limit.ts";

/** How access is granted. */
export interface Access {
  /** Asked for as `Authorization: Bearer …`. Several are good at once while they are rotated. */
  readonly adminTokens: readonly string[];
  /**
   * Whether no token is as good as one where there are none: `on` for everybody, `loopback` for requests
   * that ask for this machine by a loopback name.
   */
  readonly open: "off" | "loopback" | "on";
}

/** The limit on requests to what is guarded. */
export interface GuardLimit {
  /** Counts them. */
  readonly limiter: RateLimiter;
  /** Tells clients apart. */
  readonly clientOf: Client;
}

const LOOPBACK_NAME = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** Headers of requests that somebody else passes on. */
const PASSED_ON = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/**
 * Lets a request through to a route that writes or looks inside: with a token, where there is one, and
 * without, only where it is open.
 *
 * Refused requests are counted apart: behind a proxy that is not trusted all clients are one, and whoever
 * has the token must not be locked out by those who guess it.
 */
export function adminOnly(access: Access, limit?: GuardLimit): MiddlewareHandler {
  const withToken = bearerAuth({
    verifyToken: (token) => isAny(token, access.adminTokens),
    realm: "lookaside",
    noAuthenticationHeader: { message: UNAUTHORIZED },
    invalidAuthenticationHeader: { message: UNAUTHORIZED },
    invalidToken: { message: UNAUTHORIZED },
  });

  async function refusalOf(context: Context): Promise<Response | HTTPException | undefined> {
    if (access.adminTokens.length === 0) return refusalWithoutToken(context, access.open);
    try {
      await withToken(context, () => Promise.resolve());
      return undefined;
    } catch (error) {
      if (error instanceof HTTPException) return error;
      throw error;
    }
  }

  return async function guarded(context: Context, next: Next) {
    const refusal = await refusalOf(context);
    if (limit !== undefined) {
      const client = limit.clientOf(context.req.raw.headers, context.env);
      const allowance = await limit.limiter.take(
        refusal === undefined ? client : `${client}/refused`,
      );
      const headers = headersOf(limit.limiter, allowance);
      if (!allowance.allowed) return tooManyRequests(Object.fromEntries(headers));
      tell(context, headers);
    }
    if (refusal instanceof Response) return refusal;
    if (refusal !== undefined) throw refusal;
    await next();
  };
}

/** Compares with every token, each in constant time: how long it takes tells nothing. */
async function isAny(given: string, tokens: readonly string[]): Promise<boolean> {
  const equal = await Promise.all(tokens.map((token) => timingSafeEqual(given, token)));
  return equal.includes(true);
}

/**
 * A browser sends no token by itself, but without one a page of anybody's could write through the browser
 * of whoever may. So pages of other origins are refused and, where only this machine is let in, names that
 * somebody else may have pointed here.
 */
function refusalWithoutToken(context: Context, open: Access["open"]): Response | undefined {
  if (open === "off") return closed();
  if (isForeign(context)) return foreignOrigin();
  return open === "on" || isLocal(context) ? undefined : notLocal();
}

function isForeign({ req }: Context): boolean {
  const site = req.header("sec-fetch-site");
  if (site !== undefined) return site !== "same-origin" && site !== "none";
  const origin = req.header("origin");
  if (origin === undefined) return false;
  // Without the scheme: a proxy may speak TLS in front of the service.
  return !URL.canParse(origin) || new URL(origin).host !== new URL(req.url).host;
}

function isLocal({ req }: Context): boolean {
  return LOOPBACK_NAME.test(new URL(req.url).hostname) &&
    PASSED_ON.every((name) => req.header(name) === undefined);
}
