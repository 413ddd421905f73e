import type { Logger } from "@logtape/logtape";
import type { Access } from "../routes/app.ts";
import { type Config, isLoopback, parseConfig } from "./config.ts";
import { followSecret } from "./secrets.ts";

/**
 * Decides who may write and look inside, by the currently valid tokens. Logs a warning unless that is limited to
 * this machine or to holders of a token.
 */
export function accessOf({ http, secretFiles }: Config, logger: Logger): Access {
  const { adminTokens, adminOpen, hostname } = http;
  if (adminTokens.length === 0 && adminOpen === "off") {
    logger.warn("writes, /cache and /metrics are closed: there is no ADMIN_TOKEN");
  }
  if (adminOpen === "on" && !isLoopback(hostname)) {
    logger.warn("everybody may write: ADMIN_OPEN is on");
  }
  const tokens = followSecret(secretFiles.ADMIN_TOKEN, adminTokens, {
    read: (text) => parseConfig({ ADMIN_TOKEN: text }).http.adminTokens,
    logger,
  });
  return {
    get adminTokens() {
      return tokens();
    },
    open: adminOpen,
  };
}
