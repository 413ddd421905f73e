/**
 * The API's description, for programs and for people.
 *
 * @module
 */
import type { Hono } from "hono";
import { z } from "zod";
import { answer, FRESH, header, type Paths, text } from "./_description.ts";
import type { Page } from "./_docs_page.ts";
import type { ApiDocument } from "./_openapi.ts";
import { protectPage } from "./_page_protection.ts";

/** The origin that examples name where it is not known at which one the page is read. */
const EXAMPLE_ORIGIN = "http://127.0.0.1:3000";

/**
 * Adds the routes of the description. It is made when it is first asked for, of what `describe` says of
 * every route, and kept.
 *
 * - `GET /openapi.json`: the description, OpenAPI 3.1.
 * - `GET /docs`: a page made of it.
 */
export function addDocsRoutes(app: Hono, describe: () => Paths): void {
  let json: Promise<string> | undefined;
  let page: Promise<Page> | undefined;

  app.get("/openapi.json", async (context) => {
    json ??= document(describe).then((description) => JSON.stringify(description));
    return context.body(await json, 200, {
      "content-type": "application/json",
      "cache-control": "no-cache",
    });
  });

  app.get("/docs", protectPage(), async (context) => {
    page ??= makePage(describe);
    const { html, policy } = await page;
    return context.body(html.replaceAll(EXAMPLE_ORIGIN, originOf(context.req.url)), 200, {
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": policy,
      "cache-control": "no-cache",
    });
  });
}

/** The origin at which the page is read, or that of the examples where a terminal could take it for more. */
function originOf(url: string): string {
  const origin = url.slice(0, url.indexOf("/", "https://".length));
  return /^https?:\/\/[\w.:[\]-]+$/.test(origin) ? origin : EXAMPLE_ORIGIN;
}

// Imported when first asked for, so that no start waits for it.

async function document(describe: () => Paths): Promise<ApiDocument> {
  const { describeApi } = await import("./_openapi.ts");
  return describeApi(describe());
}

async function makePage(describe: () => Paths): Promise<Page> {
  const { docsPage } = await import("./_docs_page.ts");
  return docsPage(await document(describe), EXAMPLE_ORIGIN);
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
        summary: "This description, to read",
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
