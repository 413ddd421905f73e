import type { Logger } from "@logtape/logtape";
import { type HttpConfig, isLoopback } from "./config.ts";

/** Says who may write, where that is not only this machine or whoever has a token. */
export function reportAccess(
  { hostname, adminTokens, adminOpen }: HttpConfig,
  logger: Logger,
): void {
  if (adminTokens.length > 0) return;
  if (!adminOpen) logger.warn("writes, /cache and /metrics are closed: there is no ADMIN_TOKEN");
  else if (!isLoopback(hostname)) logger.warn("everybody may write: ADMIN_OPEN is on");
}
