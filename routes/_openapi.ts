/**
 * The description of the API (OpenAPI 3.1): every route, what it takes and all that it answers.
 *
 * @module
 */
import { z } from "zod";
import * as answers from "./_answer_schemas.ts";
import {
  answer,
  type ApiDocument,
  type Content,
  header,
  json,
  namedSchemas,
  type Operation,
  pathParameter,
  type Paths,
  queryParameters,
} from "./_api_document.ts";
import {
  BODY_ERRORS,
  CACHE_STATUS,
  CACHED,
  CHALLENGE,
  DEFECT,
  ETAG,
  FRESH,
  IF_NONE_MATCH,
  INVALID,
  INVALID_OR_UNAUTHORIZED,
  INVALIDATION,
  NO_USER,
  RETRY,
  TOO_MANY,
  UNAVAILABLE,
  UNSTORED,
} from "./_common_answers.ts";
import { EntryKey, UserBody, UserChanges, UserId, UsersQuery } from "./_schemas.ts";

const INTRODUCTION = "Users in PostgreSQL, read through a cache that every write invalidates.\n\n" +
  "HEAD answers wherever GET does, with the same headers. A path without a route is answered 404, " +
  "and a method without one 405 with `Allow`. Where a limit on all clients is set, everything but " +
  "`/healthz` and `/readyz` may be answered 429.";

/** Makes the description. Takes some milliseconds: keep it. */
export function describeApi(): ApiDocument {
  return {
    openapi: "3.1.1",
    info: {
      title: "Lookaside",
      version: "1.0.0",
      description: INTRODUCTION,
      license: { name: "MIT", identifier: "MIT" },
    },
    servers: [{ url: "/" }],
    tags: [
      { name: "Users", description: "Read through the cache; written past it, and invalidated" },
      { name: "Cache", description: "What the cache did, and ways to empty and to fill it" },
      { name: "Service", description: "Its health, its figures and its description" },
    ],
    paths: { ...userPaths(), ...cachePaths(), ...servicePaths(), ...dashboardPaths() },
    components: {
      schemas: {
        ...namedSchemas({ UserBody, UserChanges }, "input"),
        ...namedSchemas(answers, "output"),
      },
      securitySchemes: {
        adminToken: {
          type: "http",
          scheme: "bearer",
          description:
            "`ADMIN_TOKEN`. Where none is set, only the service's own machine may, or nobody",
        },
      },
    },
  };
}

function userPaths(): Paths {
  const id = pathParameter("id", UserId);
  const body = (name: string) => ({ required: true as const, content: json(name) });
  const updated = {
    200: answer("The user as it is now", json("UserUpdated"), INVALIDATION),
    ...BODY_ERRORS,
    404: NO_USER,
  };
  return {
    "/users": {
      get: operation("listUsers", {
        summary: "Lists users",
        description:
          "By page, after an id, or by ids. `page` and `after` exclude each other; `ids` excludes all else.",
        tags: ["Users"],
        parameters: [...queryParameters(UsersQuery), IF_NONE_MATCH],
        responses: {
          200: answer("The users", json("UsersAnswer"), CACHED),
          304: answer("The client holds this already", undefined, CACHED),
          400: INVALID,
          503: UNAVAILABLE,
        },
      }),
      post: guarded("createUser", {
        summary: "Makes a user",
        tags: ["Users"],
        requestBody: body("UserBody"),
        responses: {
          201: answer("The user", json("UserCreated"), {
            "Location": header("The user's path", { pattern: "^/users/\\d+$" }),
            ...INVALIDATION,
          }),
          ...BODY_ERRORS,
          503: UNAVAILABLE,
        },
      }),
    },
    "/users/{id}": {
      get: operation("getUser", {
        summary: "Reads a user",
        tags: ["Users"],
        parameters: [id, IF_NONE_MATCH],
        responses: {
          200: answer("The user", json("UserAnswer"), CACHED),
          304: answer("The client holds this already", undefined, CACHED),
          400: INVALID,
          404: answer("There is no such user", json("Failure"), {
            "Cache-Status": CACHE_STATUS,
            ...UNSTORED,
          }),
          503: UNAVAILABLE,
        },
      }),
      put: guarded("replaceUser", {
        summary: "Overwrites a user",
        tags: ["Users"],
        parameters: [id],
        requestBody: body("UserBody"),
        responses: { ...updated, 503: UNAVAILABLE },
      }),
      patch: guarded("updateUser", {
        summary: "Overwrites fields of a user",
        tags: ["Users"],
        parameters: [id],
        requestBody: body("UserChanges"),
        responses: { ...updated, 503: UNAVAILABLE },
      }),
      delete: guarded("deleteUser", {
        summary: "Deletes a user",
        tags: ["Users"],
        parameters: [id],
        responses: {
          204: answer("It is deleted", undefined, INVALIDATION),
          400: INVALID_OR_UNAUTHORIZED,
          404: NO_USER,
          503: UNAVAILABLE,
        },
      }),
    },
  };
}

function cachePaths(): Paths {
  const key = pathParameter("key", EntryKey);
  return {
    "/cache": {
      delete: guarded("clearCache", {
        summary: "Empties the cache",
        description: "This service's entries, and nothing else in Redis.",
        tags: ["Cache"],
        responses: {
          200: answer("It is empty, or will be", json("CacheCleared"), {}),
          503: UNAVAILABLE,
        },
      }),
    },
    "/cache/stats": {
      get: guarded("cacheStats", {
        summary: "Tells what the cache did",
        tags: ["Cache"],
        responses: { 200: answer("Counts since start", json("CacheStatsAnswer"), UNSTORED) },
      }),
    },
    "/cache/entries/{key}": {
      get: guarded("cacheEntry", {
        summary: "Tells what the tiers hold of a key",
        description: "Nothing is counted, loaded or made recently used by it.",
        tags: ["Cache"],
        parameters: [key],
        responses: {
          200: answer("What they hold", json("CacheEntry"), UNSTORED),
          400: INVALID_OR_UNAUTHORIZED,
          503: UNAVAILABLE,
        },
      }),
      delete: guarded("invalidateEntry", {
        summary: "Invalidates one entry",
        tags: ["Cache"],
        parameters: [key],
        responses: {
          200: answer("It is invalid, or will be", json("EntryInvalidated"), {}),
          400: INVALID_OR_UNAUTHORIZED,
          503: UNAVAILABLE,
        },
      }),
    },
    "/cache/live": {
      get: guarded("watchCache", {
        summary: "Sends the dashboard's figures every second",
        description:
          "As Server-Sent Events. What they hold is the dashboard's affair, and may change.",
        tags: ["Cache"],
        responses: {
          200: answer("Events without an end", text("text/event-stream"), UNSTORED),
          503: answer("Too many are looking on, or the service stops", json("Failure"), RETRY),
        },
      }),
    },
    "/cache/warm": {
      post: guarded("warmCache", {
        summary: "Reads the most requested users ahead of demand",
        tags: ["Cache"],
        responses: {
          200: answer("They are cached", json("CacheWarmed"), {}),
          503: UNAVAILABLE,
        },
      }),
    },
  };
}

function servicePaths(): Paths {
  return {
    "/healthz": {
      get: operation("alive", {
        summary: "Whether the process lives",
        tags: ["Service"],
        responses: { 200: answer("It does", json("Alive"), UNSTORED) },
      }, false),
    },
    "/readyz": {
      get: operation("ready", {
        summary: "Whether it should get requests",
        tags: ["Service"],
        responses: {
          200: answer("It should", json("Ready"), UNSTORED),
          503: answer("It should not", json("Failure"), RETRY),
        },
      }, false),
    },
    "/metrics": {
      get: guarded("metrics", {
        summary: "Figures for Prometheus",
        tags: ["Service"],
        responses: { 200: answer("In the text format", text("text/plain"), UNSTORED) },
      }),
    },
    "/openapi.json": {
      get: operation("openapi", {
        summary: "This description",
        tags: ["Service"],
        responses: {
          200: answer("OpenAPI 3.1", { "application/json": { schema: { type: "object" } } }, FRESH),
        },
      }, false),
    },
    "/docs": {
      get: operation("docs", {
        summary: "This description, to read",
        tags: ["Service"],
        responses: {
          200: answer("A page", text("text/html"), {
            ...FRESH,
            "Content-Security-Policy": header("Allows the page its own style alone"),
          }),
        },
      }, false),
    },
  };
}

function dashboardPaths(): Paths {
  const served = {
    "Content-Security-Policy": header("Allows the page its own files alone"),
    ...ETAG,
    ...FRESH,
  };
  const unchanged = answer("The client holds this already", undefined, served);
  const file = z.string().meta({ description: "The file's name", example: "main.js" });
  return {
    "/": {
      get: operation("dashboard", {
        summary: "The dashboard",
        tags: ["Service"],
        parameters: [IF_NONE_MATCH],
        responses: { 200: answer("A page", text("text/html"), served), 304: unchanged },
      }, false),
    },
    "/dashboard/{file}": {
      get: operation("dashboardFile", {
        summary: "What the dashboard loads",
        tags: ["Service"],
        parameters: [pathParameter("file", file), IF_NONE_MATCH],
        responses: {
          200: answer(
            "The file",
            { ...text("text/javascript"), ...text("text/css"), ...text("image/svg+xml") },
            served,
          ),
          304: unchanged,
          404: answer("There is no such file", json("Failure"), UNSTORED),
        },
      }, false),
    },
  };
}

function text(type: string): Content {
  return { [type]: { schema: { type: "string" } } };
}

type Described =
  & Omit<Operation, "operationId" | "parameters">
  & Partial<Pick<Operation, "parameters">>;

/** An operation that anyone may ask for. `mayFail`: whether a defect can show in it. */
function operation(operationId: string, described: Described, mayFail = true): Operation {
  return {
    operationId,
    ...described,
    parameters: described.parameters ?? [],
    responses: { ...described.responses, ...(mayFail ? { 500: DEFECT } : {}) },
  };
}

/** An operation behind the guard. */
function guarded(operationId: string, described: Described): Operation {
  return {
    ...operation(operationId, described),
    security: [{ adminToken: [] }],
    responses: {
      400: answer("`Authorization` is no bearer token", json("Failure"), CHALLENGE),
      401: answer("There is no good token", json("Failure"), CHALLENGE),
      403: answer(
        "No token is set, and not only this machine can ask",
        json("Failure"),
        UNSTORED,
      ),
      429: TOO_MANY,
      ...described.responses,
      500: DEFECT,
    },
  };
}
