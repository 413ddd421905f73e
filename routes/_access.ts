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
  /**
   * Whether no token is as good as one where there are none: because only this machine can reach the
   * server, or because it was said so.
   */
  readonly open: boolean;
}

/**
 * Lets a request through to a route that writes or looks inside: with a token, where there is one, and
 * without, only where it is open. Tokens are compared in constant time.
 */
export function adminOnly({ adminTokens, open }: Access): MiddlewareHandler {
  if (adminTokens.length > 0) {
    return bearerAuth({
      token: [...adminTokens],
      realm: "lookaside",
      noAuthenticationHeader: { message: UNAUTHORIZED },
      invalidAuthenticationHeader: { message: UNAUTHORIZED },
      invalidToken: { message: UNAUTHORIZED },
    });
  }
  return function openToAll(_context, next) {
    return open ? next() : Promise.resolve(forbidden());
  };
}
