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

/** A program's additions to the page: files, and markup that uses them. */
export interface DashboardPlugin {
  /** Files by name, served at `dashboard/<name>` beside those of the page, whose modules they can import. */
  readonly files?: ReadonlyMap<string, Asset>;
  /** Markup at the end of the head: `<script src="dashboard/…" type="module">`. */
  readonly head?: string;
  /** Markup at the end of the header: a `<nav>`. */
  readonly nav?: string;
  /** Markup between the figures and the charts: `<section class="card">`. */
  readonly sections?: string;
}

/** The page loads only its own files, and text can never become markup or script. */
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
/** The places in the page for the markup of a plug-in. */
const PLACE = /<!-- (head|nav|sections) -->/g;

/** Adds the page and its files. They are public, since they contain no data of the cache. */
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

/** Loads a file on first use, so that it does not slow down the start. */
async function assetOf(name: string): Promise<Asset | undefined> {
  const { ASSETS } = await import("./assets.ts");
  return ASSETS.get(name);
}

/**
 * The relative path from the page's address to the dashboard: `./_cache/` for `/_cache`, empty for `/_cache/`.
 * In Express an app sees the path without its mount; the whole path is in `originalUrl`.
 */
function baseOf({ env, req }: Context): string {
  const [path = ""] = String(env?.incoming?.originalUrl ?? req.path).split("?");
  const last = path.slice(path.lastIndexOf("/") + 1).replace(/["&<>]/g, encodeURIComponent);
  return last === "" ? "" : `./${last}/`;
}

function serve({ text, type }: Asset, { req }: Context): Response {
  const etag = weakEtag([text]);
  const headers = {
    "cache-control": "no-cache",
    "content-security-policy": POLICY,
    etag,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
  };
  const known = req.header("if-none-match");
  if (known !== undefined && matchesEtag(known, etag)) {
    return new Response(null, { status: 304, headers });
  }
  return new Response(text, { headers: { ...headers, "content-type": type } });
}

/** Adds headers to the page that keep other sites out of it. */
function protection() {
  return secureHeaders({
    xFrameOptions: "DENY",
    strictTransportSecurity: false, // left to the proxy that terminates TLS
    permissionsPolicy: { camera: [], geolocation: [], microphone: [] },
  });
}
