/**
 * The API's description, for programs and for people.
 *
 * @module
 */
import type { Hono } from "hono";
import type { ApiDocument } from "./_api_document.ts";
import type { Page } from "./_docs_page.ts";
import { protectPage } from "./_page_protection.ts";

/**
 * Adds the routes of the description. It is made when it is first asked for, and kept.
 *
 * - `GET /openapi.json`: the description, OpenAPI 3.1.
 * - `GET /docs`: a page made of it.
 */
export function addDocsRoutes(app: Hono): void {
  let text: Promise<string> | undefined;
  let page: Promise<Page> | undefined;

  app.get("/openapi.json", async (context) => {
    text ??= describe().then((description) => JSON.stringify(description));
    return context.body(await text, 200, {
      "content-type": "application/json",
      "cache-control": "no-cache",
    });
  });

  app.get("/docs", protectPage(), async (context) => {
    page ??= makePage();
    const { html, policy } = await page;
    return context.body(html, 200, {
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": policy,
      "cache-control": "no-cache",
    });
  });
}

// Imported when first asked for, so that no start waits for it.

async function describe(): Promise<ApiDocument> {
  const { describeApi } = await import("./_openapi.ts");
  return describeApi();
}

async function makePage(): Promise<Page> {
  const { docsPage } = await import("./_docs_page.ts");
  return docsPage(await describe());
}
