/**
 * What went wrong, as an answer. The only file that knows which status belongs to which failure.
 *
 * @module
 */
import type { Context, Hono } from "hono";
import { HTTPException } from "hono/http-exception";
import { CacheClosedError, LoadRejectedError, LoadTimeoutError } from "../cache/mod.ts";
import { DatabaseUnavailableError } from "../db/database.ts";
import type { Refusal, RefusedWriteError } from "../db/refused_write.ts";

/** One thing that is wrong with a request. */
export interface Issue {
  /** Where: a path segment, a query parameter or a field of the body. Empty: the body as a whole. */
  readonly path: string;
  /** What was expected there. */
  readonly message: string;
}

/** What {@linkcode ErrorListener} is told about the request that failed. */
export interface ErrorContext {
  /** The request's method. */
  readonly method: string;
  /** The request's path, without the query. */
  readonly path: string;
  /** What was answered: 500 for a defect, 503 for a failure that passes by itself. */
  readonly status: number;
}

/** Told of every error that became a 5xx, and of none that is the client's. Must not throw. */
export type ErrorListener = (error: unknown, context: ErrorContext) => void;

/** Told of the answers that are made here in place of a route that counts its own. */
interface ReadCounts {
  noteForRead(context: Context, status: number): void;
}

/** How many issues one answer lists, and how much of a client's own words it repeats. */
const ISSUES_MAX = 20;
const ISSUE_PATH_LENGTH_MAX = 100;
/** When to come back: about the time that a restart of Postgres or of this process takes. */
const RETRY_AFTER_S = "1";

/** An error repeats what a client wrote. No browser is to take that for something else than JSON. */
const PROTECTION = { "x-content-type-options": "nosniff" };

const CONFLICT = { status: 409, error: "Conflict with other rows" };
const REFUSED = { status: 422, error: "Refused by the database" };

const REFUSALS: Readonly<
  Record<Refusal, { readonly status: number; readonly error: string; readonly message: string }>
> = {
  "taken": { ...CONFLICT, message: "Another row has this value" },
  "referred to": { ...CONFLICT, message: "Other rows refer to this one" },
  "refers to nothing": { ...CONFLICT, message: "Refers to a row that does not exist" },
  "required": { ...REFUSED, message: "Required" },
  "constraint": { ...REFUSED, message: "Refused by a rule of the table" },
  "value": { ...REFUSED, message: "Not a value that this column can hold" },
};

const UNAVAILABLE = [
  CacheClosedError,
  DatabaseUnavailableError,
  LoadRejectedError,
  LoadTimeoutError,
];

/** 400: the request cannot be understood as it stands. */
export function invalid(issues: readonly Issue[]): Response {
  const listed = issues.slice(0, ISSUES_MAX).map(({ path, message }) => ({
    path: path.slice(0, ISSUE_PATH_LENGTH_MAX),
    message,
  }));
  return failure(400, { error: "Invalid request", issues: listed });
}

/** 400: `Host` and target do not make a URL. */
export function invalidTarget(): Response {
  const message = "Expected the name or address of a host, and a path as the target";
  return invalid([{ path: "host", message }]);
}

/** 401: the body of an answer to a request without a good token. */
export const UNAUTHORIZED = { error: "Unauthorized" };

/** 403: nobody may, because there is no token to ask for. */
export function closed(): Response {
  return failure(403, { error: "Forbidden: set ADMIN_TOKEN, which this then asks for" });
}

/** 403: a page of another origin may not. */
export function foreignOrigin(): Response {
  return failure(403, {
    error: "Forbidden to pages of other origins while there is no ADMIN_TOKEN",
  });
}

/** 403: only this machine may. */
export function notLocal(): Response {
  const error = "Forbidden: without ADMIN_TOKEN, this is open to requests for localhost alone";
  return failure(403, { error });
}

/** 404: there is no such row. `headers` tell how that is known. */
export function notFound(title: string, headers: Record<string, string> = {}): Response {
  return failure(404, { error: `${title} not found` }, headers);
}

/** 412: the row is not the one that the client's tag stands for. */
export function changedMeanwhile(title: string): Response {
  return failure(412, { error: `${title} has changed` });
}

/** 409 or 422: Postgres has refused a write, and would again. */
export function refusedWrite({ refusal, columns }: RefusedWriteError): Response {
  const { status, error, message } = REFUSALS[refusal];
  const paths = columns.length === 0 ? [""] : columns;
  return failure(status, { error, issues: paths.map((path) => ({ path, message })) });
}

/** 413: the body is longer than `bytesMax`. */
export function bodyTooLarge(bytesMax: number): Response {
  return failure(413, { error: `Body exceeds ${bytesMax} bytes` });
}

/** 415: the body is not plain JSON in UTF-8. */
export function unsupportedMediaType(): Response {
  return failure(415, { error: "Expected a body of type application/json in UTF-8" }, {
    "accept": "application/json",
  });
}

/** 429: the client has asked for too much. `headers` tell when it may ask again. */
export function tooManyRequests(headers: Readonly<Record<string, string>> = {}): Response {
  return failure(429, { error: "Too many requests" }, headers);
}

/** 503: this process should get no requests now. */
export function notReady(): Response {
  return failure(503, { error: "Not ready" }, { "retry-after": RETRY_AFTER_S });
}

/**
 * Answers what no route answered: 404, 405 for a path that exists under other methods, and the errors
 * that handlers threw.
 */
export function answerErrors(
  app: Hono,
  { onError, requests }: { readonly onError: ErrorListener; readonly requests: ReadCounts },
): void {
  app.notFound((context) => {
    const allowed = allowedMethods(app, context.req.path);
    requests.noteForRead(context, 404); // no GET of a read is not allowed
    if (allowed.length === 0) return failure(404, { error: "Not found" });
    return failure(405, { error: "Method not allowed" }, { "allow": allowed.join(", ") });
  });
  app.onError((error, context) => {
    // What middleware of Hono's own refuses, it refuses with an answer.
    if (error instanceof HTTPException) return protect(error.getResponse());
    const response = UNAVAILABLE.some((type) => error instanceof type)
      ? failure(503, { error: "Service unavailable" }, { "retry-after": RETRY_AFTER_S })
      : failure(500, { error: "Internal Server Error" });
    requests.noteForRead(context, response.status);
    onError(error, errorContext(context, response.status));
    return response;
  });
}

/** What the listener is told of a request that is answered with `status`. */
export function errorContext({ req }: Context, status: number): ErrorContext {
  return { method: req.method, path: req.path, status };
}

/** The methods that have a route at `path`. Asked only when a request has found none. */
function allowedMethods(app: Hono, path: string): string[] {
  // A handler for every route, registered beside the real ones, would answer 405 too, but would turn
  // the one handler of each hot route into a chain.
  // What stands before every route answers none.
  const routed = new Set(
    app.routes.map(({ method }) => method).filter((method) => method !== "ALL"),
  );
  const allowed = [...routed].filter((method) =>
    app.router.match(method, path)[0].some(([[, route]]) => route.method === method)
  );
  if (allowed.includes("GET")) allowed.push("HEAD");
  return allowed.sort();
}

function protect(response: Response): Response {
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(PROTECTION)) headers.set(name, value);
  return new Response(response.body, { status: response.status, headers });
}

function failure(
  status: number,
  body: { readonly error: string; readonly issues?: readonly Issue[] },
  headers: Readonly<Record<string, string>> = {},
): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: {
      "content-type": "application/json",
      "cache-control": "no-store",
      ...PROTECTION,
      ...headers,
    },
  });
}
