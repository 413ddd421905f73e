/**
 * The API's description for programs and people.
 *
 * @module
 */
import type { Hono } from "hono";
import { secureHeaders } from "hono/secure-headers";
import { z } from "zod";
import { answer, type Described, FRESH, header, type Paths, text } from "./_description.ts";

/** The origin in examples if that of the page is unknown. */
const EXAMPLE_ORIGIN = "http://127.0.0.1:3000";

/**
 * Headers that keep other sites out of the page. Its own `Content-Security-Policy` says what it may load. Data
 * responses do not need these headers, and each costs time.
 */
const PROTECTED = secureHeaders({
  xFrameOptions: "DENY",
  // Only the proxy that terminates TLS knows whether every access is by TLS.
  strictTransportSecurity: false,
  permissionsPolicy: { camera: [], geolocation: [], microphone: [] },
});

/**
 * Adds the routes of the description. It is made on the first request from the routes' descriptions, and kept
 * once it is complete.
 *
 * - `GET /openapi.json`: the description, OpenAPI 3.1.
 * - `GET /docs`: a page made of it.
 */
export function addDocsRoutes(app: Hono, describe: () => Promise<Described>): void {
  let kept: Awaited<ReturnType<typeof make>> | undefined;

  async function made() {
    if (kept !== undefined) return kept;
    const described = await describe();
    const making = await make(described);
    if (described.isFinal) kept = making;
    return making;
  }

  app.get("/openapi.json", async (context) => {
    return context.body((await made()).json, 200, {
      "content-type": "application/json",
      "cache-control": "no-cache",
    });
  });

  app.get("/docs", PROTECTED, async (context) => {
    const { html, policy } = await made();
    return context.body(html.replaceAll(EXAMPLE_ORIGIN, originOf(context.req.url)), 200, {
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": policy,
      "cache-control": "no-cache",
    });
  });
}

/** The origin of the page, or that of the examples if it contains characters that a shell would interpret. */
function originOf(url: string): string {
  const origin = url.slice(0, url.indexOf("/", "https://".length));
  return /^https?:\/\/[\w.:[\]-]+$/.test(origin) ? origin : EXAMPLE_ORIGIN;
}

/** Imports on first use, so that the start is not slowed down. */
async function make(described: Described) {
  const [{ describeApi }, { docsPage, POLICY }] = await Promise.all([
    import("./_openapi.ts"),
    import("./_docs_page.ts"),
  ]);
  const document = describeApi(described);
  const html = `${await docsPage(document, EXAMPLE_ORIGIN)}`;
  return { json: JSON.stringify(document), html, policy: POLICY };
}

/** Describes the routes of the description. */
export function describeDocs(): Paths {
  return {
    "/openapi.json": {
      get: {
        operationId: "openapi",
        summary: "This description",
        tags: ["Service"],
        responses: { 200: answer("OpenAPI 3.1", z.looseObject({}), FRESH) },
      },
    },
    "/docs": {
      get: {
        operationId: "docs",
        summary: "This description, for people",
        tags: ["Service"],
        responses: {
          200: text("A page", {
            ...FRESH,
            "Content-Security-Policy": header("Allows the page its own style alone"),
          }, "text/html"),
        },
      },
    },
  };
}
