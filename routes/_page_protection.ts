/**
 * Security headers for pages.
 *
 * @module
 */
import type { MiddlewareHandler } from "hono";
import { secureHeaders } from "hono/secure-headers";

/**
 * Adds headers to a page that keep other sites out of it. The page's own `Content-Security-Policy` says what it
 * may load. Data responses do not need these headers, and each costs time.
 */
export function protectPage(): MiddlewareHandler {
  return secureHeaders({
    xFrameOptions: "DENY",
    // Only the proxy that terminates TLS knows whether every access is by TLS.
    strictTransportSecurity: false,
    permissionsPolicy: { camera: [], geolocation: [], microphone: [] },
  });
}
