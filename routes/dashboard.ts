/**
 * The dashboard: its files, and the stream of what it shows.
 *
 * @module
 */
import type { Hono, MiddlewareHandler } from "hono";
import { z } from "zod";
import type { Asset } from "../web/assets.ts";
import { addBreakItRoutes, type PassOn, withPanel } from "./_break_it.ts";
import { type SampleParts, Sampler } from "./_dashboard_sample.ts";
import {
  away,
  ETAG,
  failure,
  FRESH,
  guarded,
  header,
  IF_NONE_MATCH,
  type Paths,
  text,
  unchanged,
  UNSTORED,
} from "./_description.ts";
import { fileNotFound, tooManyListeners } from "./_errors.ts";
import { matchesEtag, weakEtag } from "../cache/hono/mod.ts";
import { LiveFeed } from "./_live_feed.ts";
import { protectPage } from "./_page_protection.ts";

/** What the dashboard is made of. */
export interface DashboardDependencies extends Omit<SampleParts, "latencies"> {
  /** Ends the streams of those who look on. */
  readonly stopping: AbortSignal;
  /** Passes requests on to the panel of `deno task dev`. Default: there is none. */
  readonly breakIt?: PassOn;
}

export type { PassOn } from "./_break_it.ts";

/** The page loads nothing but its own files, and a text can never become markup or script. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");

const PAGE = "index.html";

/**
 * Adds the routes of the dashboard. The page and its files are for anyone; what it shows stands behind
 * `guard`.
 *
 * - `GET /`: the page.
 * - `GET /dashboard/:file`: what it loads.
 * - `GET /cache/live`: a sample each second, as Server-Sent Events.
 */
export function addDashboardRoutes(
  app: Hono,
  dependencies: DashboardDependencies & SampleParts,
  guard: MiddlewareHandler,
): void {
  const { clock, stopping, breakIt } = dependencies;
  const sampler = new Sampler(dependencies);
  const feed = new LiveFeed({ sample: () => sampler.take(), clock, stopping });

  app.get(
    "/",
    protectPage(),
    async ({ req }) => {
      const page = await assetOf(PAGE);
      const shown = page !== undefined && breakIt !== undefined ? withPanel(page) : page;
      return serve(shown, req.header("if-none-match"));
    },
  );
  if (breakIt !== undefined) addBreakItRoutes(app, breakIt, guard);

  app.get("/dashboard/:file", async ({ req }) => {
    const name = req.param("file");
    const asset = name === PAGE ? undefined : await assetOf(name);
    return asset === undefined ? fileNotFound() : serve(asset, req.header("if-none-match"));
  });

  app.get("/cache/live", guard, () => {
    const stream = feed.listen();
    if (stream === undefined) return tooManyListeners();
    const headers = { "content-type": "text/event-stream", "cache-control": "no-store" };
    return new Response(stream, { headers });
  });
}

/** Imported when first asked for, so that no start waits for it. */
async function assetOf(name: string): Promise<Asset | undefined> {
  const { ASSETS } = await import("../web/assets.ts");
  return ASSETS.get(name);
}

function serve(asset: Asset | undefined, ifNoneMatch: string | undefined): Response {
  if (asset === undefined) return fileNotFound();
  const headers: Record<string, string> = {
    "cache-control": "no-cache",
    "content-security-policy": POLICY,
    "etag": weakEtag([asset.text]),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
  };
  if (ifNoneMatch !== undefined && matchesEtag(ifNoneMatch, headers.etag ?? "")) {
    return new Response(null, { status: 304, headers });
  }
  return new Response(asset.text, { headers: { ...headers, "content-type": asset.type } });
}

/** Describes the routes of the dashboard. */
export function describeDashboard(): Paths {
  const served = {
    "Content-Security-Policy": header("Allows the page its own files alone"),
    ...ETAG,
    ...FRESH,
  };
  const file = z.string().meta({ description: "The file's name", example: "main.js" });
  return {
    "/": {
      get: {
        operationId: "dashboard",
        summary: "The dashboard",
        tags: ["Service"],
        requestParams: { header: IF_NONE_MATCH },
        responses: { 200: text("A page", served, "text/html"), 304: unchanged(served) },
      },
    },
    "/dashboard/{file}": {
      get: {
        operationId: "dashboardFile",
        summary: "What the dashboard loads",
        tags: ["Service"],
        requestParams: { path: z.object({ file }), header: IF_NONE_MATCH },
        responses: {
          200: text("The file", served, "text/javascript", "text/css", "image/svg+xml"),
          304: unchanged(served),
          404: failure("There is no such file", UNSTORED),
        },
      },
    },
    "/cache/live": {
      get: guarded("watchCache", {
        summary: "Sends the dashboard's figures every second",
        description:
          "As Server-Sent Events. What they hold is the dashboard's affair, and may change.",
        tags: ["Cache"],
        responses: {
          200: text("Events without an end", UNSTORED, "text/event-stream"),
          503: away("Too many are looking on, or the service stops"),
        },
      }),
    },
  };
}
