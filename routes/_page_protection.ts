/**
 * What a browser is told to be careful with.
 *
 * @module
 */
import type { MiddlewareHandler } from "hono";
import { secureHeaders } from "hono/secure-headers";

/**
 * Adds to a page the headers that keep other sites out of it. Its own `Content-Security-Policy` says what
 * it may load. Answers that are data have no use for them, and each header costs time.
 */
export function protectPage(): MiddlewareHandler {
  return secureHeaders({
    xFrameOptions: "DENY",
    // Whoever speaks TLS in front of the service knows whether there is no way around it.
    strictTransportSecurity: false,
    permissionsPolicy: { camera: [], geolocation: [], microphone: [] },
  });
}
