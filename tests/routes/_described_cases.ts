import { setImmediate } from "node:timers";
import { CacheClosedError } from "../../cache/mod.ts";
import { DatabaseUnavailableError } from "../../db/database.ts";
import { RefusedWriteError } from "../../db/refused_write.ts";
import type { AppDependencies, RateLimiter } from "../../routes/app.ts";
import type { Api, ApiChanges, SendInit } from "./api_fixture.ts";

/** A request of one kind, and what is the matter while it is made. */
export interface Case extends SendInit {
  readonly path: string;
  /** The status of the answer. */
  readonly expect: number;
  readonly api?: ApiChanges;
  readonly prepare?: (api: Api) => unknown;
}

/** What a client may write. */
export const user: { readonly name: string; readonly email: string } = {
  name: "Ada",
  email: "ada@example.com",
};
const tokens = { access: { adminTokens: ["secret"], open: "on" } as const };
/** Nobody is let in past the guard. */
export const closed: Pick<AppDependencies, "access"> = {
  access: { adminTokens: [], open: "off" },
};
const usedUp: Pick<AppDependencies, "limits"> = {
  limits: { trustedProxies: 0, admin: limiter("admin", false), clients: limiter("client", true) },
};
const down = new DatabaseUnavailableError("Cannot query: down");
const defect = new Error("broken");

/** Every operation with a request of each status that it can answer. */
export const cases: Readonly<Record<string, readonly Case[]>> = {
  "get /users": [
    ...["/users", "/users?page=2&limit=3", "/users?after=3", "/users?ids=1,2,77", "/users?ids=77"]
      .map((path) => ({ path, expect: 200 })),
    {
      path: "/users?ids=1",
      expect: 200,
      prepare: (api) => api.send("/users?ids=1"),
    },
    { path: "/users", expect: 304, headers: { "if-none-match": "*" } },
    { path: "/users?page=0&limit=x", expect: 400 },
    ...failing("/users"),
  ],
  "post /users": [
    { path: "/users", method: "POST", body: user, expect: 201 },
    { path: "/users", method: "POST", body: user, expect: 201, prepare: pend },
    ...badBodies("/users", "POST"),
    ...refusedWrites("/users", { method: "POST", body: user }),
    ...refused("/users", "POST"),
    ...failing("/users", { method: "POST", body: user }),
  ],
  "get /users/{id}": [
    { path: "/users/1", expect: 200 },
    { path: "/users/1", expect: 200, prepare: (api) => api.send("/users/1") },
    { path: "/users/1", expect: 304, headers: { "if-none-match": "*" } },
    { path: "/users/x", expect: 400 },
    { path: "/users/77", expect: 404 },
    { path: "/users/77", expect: 404, prepare: (api) => api.send("/users/77") },
    ...failing("/users/1"),
  ],
  "put /users/{id}": overwriting("PUT", user),
  "patch /users/{id}": overwriting("PATCH", { bio: null }),
  "delete /users/{id}": [
    { path: "/users/1", method: "DELETE", expect: 204 },
    { path: "/users/1", method: "DELETE", expect: 204, prepare: pend },
    { path: "/users/x", method: "DELETE", expect: 400 },
    { path: "/users/77", method: "DELETE", expect: 404 },
    { path: "/users/1", method: "DELETE", headers: { "if-match": '"other"' }, expect: 412 },
    ...refusedWrites("/users/1", { method: "DELETE" }),
    ...refused("/users/1", "DELETE"),
    ...failing("/users/1", { method: "DELETE" }),
  ],
  "delete /cache": [
    { path: "/cache", method: "DELETE", expect: 200 },
    { path: "/cache", method: "DELETE", expect: 200, prepare: pend },
    {
      path: "/cache",
      method: "DELETE",
      expect: 500,
      prepare: (api) => api.cache.invalidation = defect,
    },
    {
      path: "/cache",
      method: "DELETE",
      expect: 503,
      prepare: (api) => api.cache.invalidation = new CacheClosedError("Cannot clear: closed"),
    },
    ...refused("/cache", "DELETE"),
  ],
  "get /cache/stats": [
    { path: "/cache/stats", expect: 200, prepare: (api) => api.send("/users/1") },
    {
      path: "/cache/stats",
      expect: 200,
      prepare: (api) => api.cache.info = { info: "#", keyspace: "#", totalKeys: 1 },
      api: {
        changes: { stats: () => Promise.reject(down) },
        audit: { note: () => {}, stats: () => ({ audited: 1, stale: 0 }) },
      },
    },
    { path: "/cache/stats", expect: 500, prepare: breakStats },
    ...refused("/cache/stats"),
  ],
  "post /cache/warm": [
    { path: "/cache/warm", method: "POST", expect: 200 },
    ...[[down, 503], [defect, 500]].map(([error, expect]) => ({
      path: "/cache/warm",
      method: "POST",
      expect: Number(expect),
      api: { warm: () => Promise.reject(error) },
    })),
    ...refused("/cache/warm", "POST"),
  ],
  "get /cache/entries/{key}": [
    { path: "/cache/entries/users:1", expect: 200 },
    { path: "/cache/entries/users:1", expect: 200, prepare: (api) => api.send("/users/1") },
    { path: "/cache/entries/users:77", expect: 200, prepare: (api) => api.send("/users/77") },
    { path: "/cache/entries/%7Bx", expect: 400 },
    ...failingCache("inspect", "/cache/entries/users:1"),
    ...refused("/cache/entries/users:1"),
  ],
  "delete /cache/entries/{key}": [
    { path: "/cache/entries/users:1", method: "DELETE", expect: 200 },
    { path: "/cache/entries/users:1", method: "DELETE", expect: 200, prepare: pend },
    { path: "/cache/entries/%0a", method: "DELETE", expect: 400 },
    ...failingCache("delete", "/cache/entries/users:1", "DELETE"),
    ...refused("/cache/entries/users:1", "DELETE"),
  ],
  "get /cache/live": [
    // Ended once it has begun, or it could not be read whole.
    { path: "/cache/live", expect: 200, prepare: (api) => void setImmediate(() => api.stop()) },
    { path: "/cache/live", expect: 503, prepare: (api) => api.stop() },
    { path: "/cache/live", expect: 500, prepare: breakStats },
    ...refused("/cache/live"),
  ],
  "get /": [
    { path: "/", expect: 200 },
    { path: "/", expect: 304, headers: { "if-none-match": "*" } },
  ],
  "get /dashboard/{file}": [
    ...["main.js", "style.css", "icon.svg", "uplot.js", "uplot.css"].map((name) => ({
      path: `/dashboard/${name}`,
      expect: 200,
    })),
    { path: "/dashboard/main.js", expect: 304, headers: { "if-none-match": "*" } },
    { path: "/dashboard/assets.ts", expect: 404 },
    { path: "/dashboard/index.html", expect: 404 },
  ],
  "get /healthz": [{ path: "/healthz", expect: 200 }],
  "get /readyz": [
    { path: "/readyz", expect: 200 },
    { path: "/readyz", expect: 503, api: { ready: () => false } },
    { path: "/readyz", expect: 503, api: { ready: () => Promise.reject(down) } },
  ],
  "get /metrics": [
    { path: "/metrics", expect: 200 },
    { path: "/metrics", expect: 500, prepare: breakStats },
    ...refused("/metrics"),
  ],
  "get /openapi.json": [{ path: "/openapi.json", expect: 200 }],
  "get /docs": [{ path: "/docs", expect: 200 }],
};

function pend(api: Api): void {
  api.cache.invalidation = "pending";
}

function breakStats(api: Api): void {
  api.cache.stats = () => {
    throw defect;
  };
}

function failingCache(method: "inspect" | "delete", path: string, verb = "GET"): Case[] {
  return [[new CacheClosedError("Cannot use the cache: closed"), 503], [defect, 500]].map((
    [error, expect],
  ) => ({
    path,
    method: verb,
    expect: Number(expect),
    prepare: ({ cache }: Api) => Object.assign(cache, { [method]: () => Promise.reject(error) }),
  }));
}

function failing(path: string, init: SendInit = {}): Case[] {
  return [[down, 503], [defect, 500]].map(([error, expect]) => ({
    path,
    ...init,
    expect: Number(expect),
    prepare: (api: Api) => api.users.failure = error instanceof Error ? error : defect,
  }));
}

function refusedWrites(path: string, init: SendInit): Case[] {
  const refusals = [["taken", ["email"], 409], ["required", [], 422]] as const;
  return refusals.map(([refusal, columns, expect]) => ({
    path,
    ...init,
    expect,
    prepare: (api: Api) => api.users.failure = new RefusedWriteError(refusal, columns, undefined),
  }));
}

/** A limit as this process counts it while Redis is down. */
function limiter(name: string, allowed: boolean): RateLimiter {
  const take = () => Promise.resolve({ allowed, remaining: 0, resetMs: 1_000, local: true });
  return { name, limit: 1, windowMs: 60_000, take };
}

function refused(path: string, method = "GET"): Case[] {
  return [
    { path, method, api: tokens, headers: { authorization: "Basic x" }, expect: 400 },
    { path, method, api: tokens, expect: 401 },
    { path, method, api: closed, expect: 403 },
    { path, method, api: usedUp, expect: 429 },
  ];
}

function badBodies(path: string, method: string): Case[] {
  return [
    { path, method, body: { name: 5 }, expect: 400 },
    { path, method, body: brokenOff(), expect: 408 },
    { path, method, body: "x".repeat(70_000), expect: 413 },
    { path, method, body: "x", headers: { "content-type": "text/plain" }, expect: 415 },
    { path, method, body: "x", headers: { "content-encoding": "gzip" }, expect: 415 },
  ];
}

function brokenOff(): ReadableStream {
  return new ReadableStream({ pull: (controller) => controller.error(new Error("broken off")) });
}

function overwriting(method: string, body: object): Case[] {
  return [
    { path: "/users/1", method, body, expect: 200 },
    { path: "/users/1", method, body, expect: 200, prepare: pend },
    { path: "/users/77", method, body, expect: 404 },
    { path: "/users/1", method, body, headers: { "if-match": 'W/"other"' }, expect: 412 },
    { path: "/users/1", method, body, headers: { "if-match": "*" }, expect: 200 },
    ...refusedWrites("/users/1", { method, body }),
    ...badBodies("/users/1", method),
    ...refused("/users/1", method),
    ...failing("/users/1", { method, body }),
  ];
}
