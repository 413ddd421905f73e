/**
 * The panel that `deno task dev` serves: the usual recipe next to Lookaside, and buttons that break their servers.
 *
 * @module
 */
import type { Hono, MiddlewareHandler } from "hono";

/** Forwards a request to the program that serves the panel. */
export type PassOn = (name: string, method: "GET" | "POST") => Promise<Response>;

/** Loads the panel, in the head of the page. */
export const PANEL = `
    <link rel="stylesheet" href="/break-it/panel.css">
    <script src="/break-it/panel.js" type="module"></script>`;

/** Adds the routes of the panel. Its files are public; its data and actions are behind `guard`. */
export function addBreakItRoutes(app: Hono, passOn: PassOn, guard: MiddlewareHandler): void {
  for (const file of ["panel.js", "panel.css"]) {
    app.get(`/break-it/${file}`, async () => unstored(await passOn(file, "GET")));
  }
  app.get("/break-it/state", guard, async () => unstored(await passOn("state", "GET")));
  app.post(
    "/break-it/:deed",
    guard,
    async ({ req }) => unstored(await passOn(req.param("deed"), "POST")),
  );
}

/** The response with its type only, without other headers of that program. */
function unstored({ body, status, headers }: Response): Response {
  return new Response(body, {
    status,
    headers: {
      "cache-control": "no-store",
      "content-type": headers.get("content-type") ?? "text/plain",
      "x-content-type-options": "nosniff",
    },
  });
}
