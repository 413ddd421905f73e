/**
 * Who may write and look inside.
 *
 * @module
 */
import type { MiddlewareHandler } from "hono";
import { bearerAuth } from "hono/bearer-auth";
import { forbidden, UNAUTHORIZED } from "./_errors.ts";

/** How access is granted. */
export interface Access {
  /** Asked for as `Authorization: Bearer …`. Several are good at once while they are rotated. */
  readonly adminTokens: readonly string[];
  /** Whether only this machine can reach the server: then no token is as good as one. */
  readonly loopback: boolean;
}

/**
 * Lets a request through to a route that writes or looks inside: with a token, where there is one, and
 * without, only from this machine. Tokens are compared in constant time.
 */
export function adminOnly({ adminTokens, loopback }: Access): MiddlewareHandler {
  if (adminTokens.length > 0) {
    return bearerAuth({
      token: [...adminTokens],
      realm: "lookaside",
      noAuthenticationHeader: { message: UNAUTHORIZED },
      invalidAuthenticationHeader: { message: UNAUTHORIZED },
      invalidToken: { message: UNAUTHORIZED },
    });
  }
  return function openOnLoopback(_context, next) {
    return loopback ? next() : Promise.resolve(forbidden());
  };
}
