/**
 * The page and its files.
 *
 * @module
 */
import type { Context, Hono } from "hono";
import { secureHeaders } from "hono/secure-headers";
import { matchesEtag, weakEtag } from "../hono/etag.ts";
import type { Asset } from "./assets.ts";
import { failure } from "./failure.ts";

/** Additions of a program to the page: files, and markup that loads and places them. */
export interface DashboardPlugin {
  /** Files by name, at `dashboard/<name>` beside those of the page, whose modules they can import. */
  readonly files?: ReadonlyMap<string, Asset>;
  /** Markup at the end of the head: `<script src="dashboard/…" type="module">`. */
  readonly head?: string;
  /** Markup at the end of the header: a `<nav>`. */
  readonly nav?: string;
  /** Markup between the figures and the charts: `<section class="card">`. */
  readonly sections?: string;
}

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
/** The places of the page that a plug-in fills. */
const PLACE = /<!-- (head|nav|sections) -->/g;

/** Adds the page and its files, which are for anyone: nothing of the cache stands in them. */
export function addPageRoutes(
  app: Hono,
  plugin: () => Promise<DashboardPlugin> = () => Promise.resolve({}),
): void {
  app.get("/", protection(), async (context) => {
    const added = await plugin();
    const page = await assetOf(PAGE);
    if (page === undefined) throw new Error("Cannot find the page of the dashboard");
    const filled = page.text.replace(
      PLACE,
      (_, place: "head" | "nav" | "sections") => added[place] ?? "",
    );
    const text = filled.replaceAll('="dashboard/', `="${baseOf(context)}dashboard/`);
    return serve({ ...page, text }, context);
  });

  app.get("/dashboard/:file", async (context) => {
    const name = context.req.param("file");
    const file = name === PAGE
      ? undefined
      : await assetOf(name) ?? (await plugin()).files?.get(name);
    return file === undefined ? failure(404, { error: "File not found" }) : serve(file, context);
  });
}

/** Loads a file. Imported when first asked for, so that no start waits for it. */
async function assetOf(name: string): Promise<Asset | undefined> {
  const { ASSETS } = await import("./assets.ts");
  return ASSETS.get(name);
}

/**
 * The way from the page's address to the dashboard's own: `./_cache/` for `/_cache`, and none for `/_cache/`. Below
 * Express an app sees the path without its mount, and the whole one stands in `originalUrl`.
 */
function baseOf({ env, req }: Context): string {
  const [path = ""] = String(env?.incoming?.originalUrl ?? req.path).split("?");
  const last = path.slice(path.lastIndexOf("/") + 1).replace(/["&<>]/g, encodeURIComponent);
  return last === "" ? "" : `./${last}/`;
}

function serve({ text, type }: Asset, { req }: Context): Response {
  const etag = weakEtag([text]);
  const headers = {
    ...{ "cache-control": "no-cache", "content-security-policy": POLICY, etag },
    ...{ "referrer-policy": "no-referrer", "x-content-type-options": "nosniff" },
  };
  const known = req.header("if-none-match");
  if (known !== undefined && matchesEtag(known, etag)) {
    return new Response(null, { status: 304, headers });
  }
  return new Response(text, { headers: { ...headers, "content-type": type } });
}

/** Adds to the page the headers that keep other sites out of it. */
function protection() {
  return secureHeaders({
    xFrameOptions: "DENY",
    strictTransportSecurity: false, // whoever speaks TLS in front knows whether there is no way around it
    permissionsPolicy: { camera: [], geolocation: [], microphone: [] },
  });
}
