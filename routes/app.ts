/**
 * The HTTP API.
 *
 * @module
 */
import { type Context, Hono } from "hono";
import { cors } from "hono/cors";
import { Latencies } from "../cache/dashboard/mod.ts";
import { type Access, adminOnly } from "./_access.ts";
import { clients } from "./_client.ts";
import { ErrorCounts } from "./_error_counts.ts";
import { answerErrors, invalidTarget } from "./_errors.ts";
import { limitAll, type RateLimiter } from "./_rate_limit.ts";
import { RequestCounts } from "./_request_counts.ts";
import { Targets } from "./_target.ts";
import type { Described } from "./_description.ts";
import { addCacheRoutes, type CacheDependencies, describeCache } from "./cache.ts";
import { addDashboardRoutes, type DashboardDependencies, describeDashboard } from "./dashboard.ts";
import { addDocsRoutes, describeDocs } from "./docs.ts";
import { describeEntries } from "./_entries_description.ts";
import { addHealthRoutes, describeHealth, type HealthDependencies } from "./health.ts";
import { addMetricsRoute, describeMetrics, type MetricsDependencies } from "./metrics.ts";
import { describeTables } from "./_table_description.ts";
import type { Table } from "./table.ts";
import { addReads, type ReadDependencies } from "./table_reads.ts";
import { addWrites, type WriteDependencies } from "./table_writes.ts";

export type { Access } from "./_access.ts";
export type { ErrorContext, ErrorListener } from "./_errors.ts";
export type { Allowance, RateLimiter } from "./_rate_limit.ts";

/** Time for which a browser may reuse the answer to a preflight request. */
const PREFLIGHT_MAX_AGE_S = 600;

const READER_METHODS = ["GET", "HEAD"];
const WRITER_METHODS = [...READER_METHODS, "POST", "PUT", "PATCH", "DELETE"];

/** All dependencies of the API. */
export type AppDependencies =
  & ReadDependencies
  & WriteDependencies
  & HealthDependencies
  & CacheDependencies
  & DashboardDependencies
  & MetricsDependencies
  & OwnDependencies;

interface OwnDependencies {
  /** The tables that are served. */
  readonly tables: readonly Table[];
  /** Decides who may write and look inside. */
  readonly access: Access;
  /** Limits on the requests of one client. Default: none. */
  readonly limits?: Limits;
  /** Origins whose pages may read answers; `*` is every origin. Default: none. */
  readonly corsOrigins?: readonly string[];
  /** Origins whose pages may also write, with a token. Default: none. */
  readonly corsWriteOrigins?: readonly string[];
}

/** Limits on the requests of one client. */
export interface Limits {
  /** Limits guarded routes; refused requests are counted separately. */
  readonly admin?: RateLimiter;
  /** Limits everything except `/healthz` and `/readyz`. */
  readonly clients?: RateLimiter;
  /** Number of proxies in front of the service that add to `X-Forwarded-For` or `Forwarded`. */
  readonly trustedProxies: number;
  /** Called each time that their headers cannot be read. */
  readonly onUnreadable?: () => void;
}

/**
 * Makes the API as an app; its `fetch` answers requests.
 *
 * There is no middleware in front of the routes, because even one would turn the single handler of each read
 * into a chain of promises. To see every request, wrap `app.fetch`. CORS and a limit on all clients cost time
 * only if configured.
 */
export function createApp(given: AppDependencies): Hono {
  const app = new Hono();
  const errors = new ErrorCounts();
  const requests = new RequestCounts();
  const latencies = new Latencies();
  const dependencies = { ...given, latencies, requests, onError: errors.around(given.onError) };
  const limits: Limits = dependencies.limits ?? { trustedProxies: 0 };
  const { trustedProxies, onUnreadable = () => {} } = limits;
  const clientOf = clients(trustedProxies, onUnreadable);
  const guard = adminOnly(dependencies.access, clientOf, limits.admin);
  allowOrigins(app, dependencies);
  if (limits.clients !== undefined) {
    // After preflights, which are not counted, and inside CORS, which a refusal needs.
    const onRefused = (context: Context) => requests.noteForRead(context, 429);
    app.use(limitAll(limits.clients, clientOf, onRefused));
  }
  addReads(app, given.tables, dependencies);
  addWrites(app, given.tables, dependencies, guard);
  addCacheRoutes(app, dependencies, guard);
  addHealthRoutes(app, dependencies);
  addMetricsRoute(app, { ...dependencies, errors }, guard);
  addDocsRoutes(app, () => describeRoutes(given.tables));
  addDashboardRoutes(app, dependencies, guard);
  answerErrors(app, dependencies);
  answerHeads(app);
  app.fetch = requests.around(app.fetch, app.routes);
  refuseBadTargets(app, requests);
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

/** Lets pages of other origins read answers or write, which browsers prevent by default. */
function allowOrigins(
  app: Hono,
  { corsOrigins: readers = [], corsWriteOrigins: writers = [] }: AppDependencies,
): void {
  if (readers.length + writers.length === 0) return;
  const everybody = readers.includes("*");
  app.use(cors({
    origin: (origin, { req }) => {
      const asked = req.method === "OPTIONS"
        ? req.header("access-control-request-method")
        : req.method;
      if (writers.includes(origin)) return origin;
      if (asked !== "GET" && asked !== "HEAD") return null;
      return everybody ? "*" : readers.includes(origin) ? origin : null;
    },
    allowMethods: (origin) => writers.includes(origin) ? WRITER_METHODS : READER_METHODS,
    allowHeaders: ["authorization", "content-type", "if-match", "if-none-match"],
    exposeHeaders: [
      ...["cache-status", "etag", "location", "lookaside-invalidation"],
      ...["ratelimit", "ratelimit-policy", "retry-after"],
    ],
    maxAge: PREFLIGHT_MAX_AGE_S,
  }));
}

/** Refuses requests with an invalid URL, for any method, before it is used. */
function refuseBadTargets(app: Hono, requests: RequestCounts): void {
  const fetch = app.fetch;
  const targets = new Targets();
  app.fetch = (request, env, executionContext) => {
    if (targets.isGood(request)) return fetch(request, env, executionContext);
    requests.noteWithoutRoute(request.method, 400);
    return request.method === "HEAD" ? withoutBody(invalidTarget()) : invalidTarget();
  };
}

/**
 * Makes HEAD answer with the headers of GET, `Content-Length` included. Hono drops the body and thus its length,
 * and a server would then announce the length 0.
 */
function answerHeads(app: Hono): void {
  const fetch = app.fetch;
  // Named parameters: a rest parameter would cost every request.
  app.fetch = (request, env, executionContext) => {
    if (request.method !== "HEAD") return fetch(request, env, executionContext);
    return withoutBody(fetch(asGet(request), env, executionContext));
  };
}

/** A GET for the same URL, letter for letter; `new Request` would normalise it. */
function asGet(request: Request): Request {
  return new Proxy(request, {
    get: (target, name) => name === "method" ? "GET" : Reflect.get(target, name, target),
  });
}

async function withoutBody(answering: Response | Promise<Response>): Promise<Response> {
  const response = await answering;
  if (response.headers.get("content-type") === "text/event-stream") {
    await response.body?.cancel(); // a stream has no length
    return new Response(null, response);
  }
  const { byteLength } = await response.arrayBuffer();
  const headers = new Headers(response.headers);
  // A 304 has no body, so it gets no length.
  if (response.status !== 304) headers.set("content-length", String(byteLength));
  return new Response(null, { status: response.status, headers });
}
