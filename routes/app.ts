/**
 * The HTTP API.
 *
 * @module
 */
import { Hono, type MiddlewareHandler } from "hono";
import { every } from "hono/combine";
import { cors } from "hono/cors";
import { type Access, adminOnly } from "./_access.ts";
import { ErrorCounts } from "./_error_counts.ts";
import { answerErrors, invalidHost } from "./_errors.ts";
import { Latencies } from "./_latencies.ts";
import { limitAll, limitRate, type RateLimiter } from "./_rate_limit.ts";
import { RequestCounts } from "./_request_counts.ts";
import type { Described } from "./_description.ts";
import { addCacheRoutes, type CacheDependencies, describeCache } from "./cache.ts";
import { addDashboardRoutes, type DashboardDependencies, describeDashboard } from "./dashboard.ts";
import { addDocsRoutes, describeDocs } from "./docs.ts";
import { addEntryRoutes, describeEntries, type EntriesDependencies } from "./entries.ts";
import { addHealthRoutes, describeHealth, type HealthDependencies } from "./health.ts";
import { addMetricsRoute, describeMetrics, type MetricsDependencies } from "./metrics.ts";
import { describeTables } from "./_table_description.ts";
import type { Table } from "./table.ts";
import { addReads, type ReadDependencies } from "./table_reads.ts";
import { addWrites, type WriteDependencies } from "./table_writes.ts";

export type { ErrorContext, ErrorListener } from "./_errors.ts";
export type { Allowance, RateLimiter } from "./_rate_limit.ts";

/** How long a browser may rely on an answer to what it asked ahead. */
const PREFLIGHT_MAX_AGE_S = 600;

/** Everything that the API is made of. */
export interface AppDependencies
  extends
    ReadDependencies,
    WriteDependencies,
    HealthDependencies,
    CacheDependencies,
    EntriesDependencies,
    DashboardDependencies,
    MetricsDependencies {
  /** The tables that are served. */
  readonly tables: readonly Table[];
  /** Reads, writes and clearing go through it. */
  readonly cache:
    & ReadDependencies["cache"]
    & WriteDependencies["cache"]
    & CacheDependencies["cache"]
    & EntriesDependencies["cache"]
    & DashboardDependencies["cache"];
  /** Audits answers, where they are audited. */
  readonly audit?: NonNullable<ReadDependencies["audit"] & CacheDependencies["audit"]>;
  /** Who may write, and look inside. */
  readonly access: Access;
  /** How much one client may ask for. Default: as much as it likes. */
  readonly limits?: Limits;
  /** Whose pages may read answers, `*` being everyone's. Default: nobody's. */
  readonly corsOrigins?: readonly string[];
}

/** How much one client may ask for. */
export interface Limits {
  /** Of what stands behind the guard, refused or not. */
  readonly admin?: RateLimiter;
  /** Of everything but `/healthz` and `/readyz`. */
  readonly clients?: RateLimiter;
  /** How many proxies in front of the service add to `X-Forwarded-For`. */
  readonly trustedProxies: number;
}

/**
 * The API as an app whose `fetch` answers requests.
 *
 * It has no middleware of its own in front of a route, because a single one would turn the one handler
 * of each read into a chain of promises. To see every request, wrap `app.fetch`. Only who asks for CORS
 * or for a limit on all clients pays for them.
 */
export function createApp(given: AppDependencies): Hono {
  const app = new Hono();
  const errors = new ErrorCounts();
  const requests = new RequestCounts();
  const latencies = new Latencies();
  const dependencies = { ...given, latencies, requests, onError: errors.around(given.onError) };
  const guard = guardOf(dependencies);
  allowOrigins(app, dependencies.corsOrigins ?? []);
  addReads(app, given.tables, dependencies);
  addWrites(app, given.tables, dependencies, guard);
  addCacheRoutes(app, dependencies, guard);
  addEntryRoutes(app, dependencies, guard);
  addHealthRoutes(app, dependencies);
  addMetricsRoute(app, { ...dependencies, errors }, guard);
  addDocsRoutes(app, () => describeRoutes(given.tables));
  addDashboardRoutes(app, dependencies, guard);
  answerErrors(app, dependencies);
  answerHeads(app);
  const { clients, trustedProxies = 0 } = dependencies.limits ?? {};
  app.fetch = requests.around(app.fetch, app.routes);
  if (clients !== undefined) {
    const onRefused = (request: Request) => requests.note(request, 429);
    app.fetch = limitAll(app.fetch, clients, { trustedProxies, onRefused });
  }
  return app;
}

async function describeRoutes(tables: readonly Table[]): Promise<Described> {
  const { paths, ...described } = await describeTables(tables);
  return {
    ...described,
    paths: {
      ...paths,
      ...describeCache(),
      ...describeEntries(),
      ...describeHealth(),
      ...describeMetrics(),
      ...describeDocs(),
      ...describeDashboard(),
    },
  };
}

/** Counts before it asks for a token: who guesses tokens is to be slowed down. */
function guardOf({ access, limits }: AppDependencies): MiddlewareHandler {
  const guard = adminOnly(access);
  if (limits?.admin === undefined) return guard;
  return every(limitRate(limits.admin, limits.trustedProxies), guard);
}

/** Lets the pages of others read answers. Without this no browser lets them. */
function allowOrigins(app: Hono, origins: readonly string[]): void {
  if (origins.length === 0) return;
  app.use(cors({
    origin: origins.includes("*") ? "*" : [...origins],
    allowMethods: ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
    allowHeaders: ["authorization", "content-type", "if-none-match"],
    exposeHeaders: [
      ...["cache-status", "etag", "location", "lookaside-invalidation"],
      ...["ratelimit", "ratelimit-policy", "retry-after"],
    ],
    maxAge: PREFLIGHT_MAX_AGE_S,
  }));
}

/**
 * Makes HEAD answer with the headers of GET, `Content-Length` included. Hono drops the body, and with it
 * the length: a server would then announce the length 0, which is not that of the GET.
 */
function answerHeads(app: Hono): void {
  const fetch = app.fetch;
  // Its arguments by name: gathering them costs every request.
  app.fetch = (request, env, executionContext) => {
    if (request.method !== "HEAD") return fetch(request, env, executionContext);
    const { url, headers } = request;
    // Deno passes requests on under whatever Host, and from some of them no other can be made.
    if (!URL.canParse(url)) return withoutBody(invalidHost());
    return withoutBody(fetch(new Request(url, { headers }), env, executionContext));
  };
}

async function withoutBody(answering: Response | Promise<Response>): Promise<Response> {
  const response = await answering;
  if (response.headers.get("content-type") === "text/event-stream") {
    await response.body?.cancel(); // it has no end, and so no length
    return new Response(null, response);
  }
  const { byteLength } = await response.arrayBuffer();
  const headers = new Headers(response.headers);
  // 304 says nothing of a body that it never has.
  if (response.status !== 304) headers.set("content-length", String(byteLength));
  return new Response(null, { status: response.status, headers });
}
