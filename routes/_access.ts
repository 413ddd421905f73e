/**
 * Decides for each request whether it may write and look inside.
 *
 * @module
 */
import type { Context, MiddlewareHandler, Next } from "hono";
import { bearerAuth } from "hono/bearer-auth";
import { HTTPException } from "hono/http-exception";
import { timingSafeEqual } from "hono/utils/buffer";
import type { Client } from "./_client.ts";
import { forbidden, UNAUTHORIZED } from "./_errors.ts";
import { refuseParameters } from "./_input.ts";
import { counted, type HeaderList, type RateLimiter, tell } from "./_rate_limit.ts";

/** Rules for access. */
export interface Access {
  /** Accepted as `Authorization: Bearer …`. There may be several during a rotation. */
  readonly adminTokens: readonly string[];
  /**
   * Access without a token if none is set: `on` for all requests, `loopback` for those that name this machine by
   * a loopback name.
   */
  readonly open: "off" | "loopback" | "on";
}

const LOOPBACK_NAME = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** Headers of requests that a proxy has forwarded. */
const PASSED_ON = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/**
 * Admits a request to a guarded route: with a valid token, or without one if none is set and access is open. No
 * guarded route has parameters.
 *
 * Refused requests are counted separately: behind an untrusted proxy all clients look like one, and clients that
 * guess tokens must not lock out those with a valid one.
 */
export function adminOnly(
  access: Access,
  clientOf: Client,
  limiter: RateLimiter | undefined,
): MiddlewareHandler {
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
    let headers: HeaderList = [];
    if (limiter !== undefined) {
      const client = clientOf(context.req.raw.headers, context.env);
      const told = await counted(limiter, refusal === undefined ? client : `${client}/refused`);
      if (told instanceof Response) return told;
      headers = told;
    }
    if (refusal instanceof Response) return refusal;
    if (refusal !== undefined) throw refusal;
    const unexpected = refuseParameters(context);
    if (unexpected === undefined) await next();
    else context.res = unexpected;
    // Afterwards: a handler that answers with a response of its own would lose them.
    tell(context, headers);
  };
}

/** Compares with every token in constant time, so that the duration reveals nothing. */
async function isAny(given: string, tokens: readonly string[]): Promise<boolean> {
  const equal = await Promise.all(tokens.map((token) => timingSafeEqual(given, token)));
  return equal.includes(true);
}

/**
 * A browser sends no token by itself. But without a token, any page could write through the browser of a
 * permitted user. So pages of other origins are refused and, if only this machine is admitted, also names that
 * another site may have pointed here.
 */
function refusalWithoutToken(context: Context, open: Access["open"]): Response | undefined {
  if (open === "off") return forbidden("Forbidden: set ADMIN_TOKEN, which this then asks for");
  if (isForeign(context)) {
    return forbidden("Forbidden to pages of other origins while there is no ADMIN_TOKEN");
  }
  if (open === "on" || isLocal(context)) return undefined;
  return forbidden(
    "Forbidden: without ADMIN_TOKEN, this is open to requests for localhost alone",
  );
}

function isForeign({ req }: Context): boolean {
  const site = req.header("sec-fetch-site");
  if (site !== undefined) return site !== "same-origin" && site !== "none";
  const origin = req.header("origin");
  if (origin === undefined) return false;
  // Ignores the scheme, because a proxy may terminate TLS.
  return !URL.canParse(origin) || new URL(origin).host !== new URL(req.url).host;
}

function isLocal({ req }: Context): boolean {
  return LOOPBACK_NAME.test(new URL(req.url).hostname) &&
    PASSED_ON.every((name) => req.header(name) === undefined);
}
