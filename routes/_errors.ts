/**
 * Errors as responses. Only this file knows which error has which status.
 *
 * @module
 */
import type { Context, Hono } from "hono";
import { HTTPException } from "hono/http-exception";
import { CacheClosedError, LoadRejectedError, LoadTimeoutError } from "../cache/mod.ts";
import { isOfLogin, MissingRightError } from "../db/advice.ts";
import { DatabaseUnavailableError } from "../db/database.ts";
import type { Refusal, RefusedWriteError } from "../db/refused_write.ts";

/** One problem of a request. */
export interface Issue {
  /** Its place: a path segment, a query parameter or a field of the body. Empty: the whole body. */
  readonly path: string;
  /** A description of valid input. */
  readonly message: string;
}

/** Details of the failed request, for an {@linkcode ErrorListener}. */
export interface ErrorContext {
  /** The request's method. */
  readonly method: string;
  /** The request's path, without the query. */
  readonly path: string;
  /** The status of the response: 500 for a defect, 503 for a temporary failure, 403 for a right that is missing. */
  readonly status: number;
}

/** Called for every error but those of the client. Must not throw. */
export type ErrorListener = (error: unknown, context: ErrorContext) => void;

/** Called for the responses made here instead of a route that counts its own. */
interface ReadCounts {
  noteForRead(context: Context, status: number): void;
}

/** Limits of listed issues, and of repeated client input. */
const ISSUES_MAX = 20;
const ISSUE_PATH_LENGTH_MAX = 100;
/** Seconds after which to retry: about the time that a restart of Postgres or of this process takes. */
const RETRY_AFTER_S = "1";

/** An error passes, and may repeat client input, which a browser must not interpret as anything but JSON. */
const HEADERS = { "cache-control": "no-store", "x-content-type-options": "nosniff" };

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
  MissingRightError,
];

/** 400: the request is invalid. */
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

/** 401: the body of the response to a request without a valid token. */
export const UNAUTHORIZED = { error: "Unauthorized" };

/** 403: no token is set, and this request may not do without. */
export function forbidden(error: string): Response {
  return failure(403, { error });
}

/** 403: the role of this service may not write that in the database, whoever asks. */
function withheld(): Response {
  return forbidden("Forbidden to this service by the database: its log says what to grant");
}

/** 404: there is no such row. `headers` say how that is known. */
export function notFound(title: string, headers: Record<string, string> = {}): Response {
  return failure(404, { error: `${title} not found` }, headers);
}

/** 412: the row no longer has the content that the client's tag stands for. */
export function changedMeanwhile(title: string): Response {
  return failure(412, { error: `${title} has changed` });
}

/** 412: the row exists with content that the client did not want to overwrite. */
export function excluded(title: string): Response {
  return failure(412, { error: `${title} has content that If-None-Match excludes` });
}

/** 409 or 422: Postgres refused a write, and would refuse it again. */
export function refusedWrite({ refusal, columns }: RefusedWriteError): Response {
  const { status, error, message } = REFUSALS[refusal];
  const paths = columns.length === 0 ? [""] : columns;
  return failure(status, { error, issues: paths.map((path) => ({ path, message })) });
}

/** 408: the body did not arrive as a whole, or not before the service stopped. */
export function bodyNotReceived(): Response {
  return failure(408, { error: "The body did not arrive: send the request again" });
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

/** 415: the body is compressed, or encoded otherwise. */
export function unsupportedCoding(): Response {
  return failure(415, { error: "Expected a body without Content-Encoding" }, {
    "accept-encoding": "identity",
  });
}

/** 429: the client has sent too many requests. `headers` say when it may send more. */
export function tooManyRequests(headers: Readonly<Record<string, string>> = {}): Response {
  return failure(429, { error: "Too many requests" }, headers);
}

/** 503: this process should get no requests now. */
export function notReady(): Response {
  return failure(503, { error: "Not ready" }, { "retry-after": RETRY_AFTER_S });
}

/** Answers requests that no route has answered: 404, 405 for a path with other methods, and errors of handlers. */
export function answerErrors(
  app: Hono,
  { onError, requests }: { readonly onError: ErrorListener; readonly requests: ReadCounts },
): void {
  app.notFound((context) => {
    const allowed = allowedMethods(app, context.req.path);
    requests.noteForRead(context, 404); // a GET never gets 405
    if (allowed.length === 0) return failure(404, { error: "Not found" });
    return failure(405, { error: "Method not allowed" }, { "allow": allowed.join(", ") });
  });
  app.onError((error, context) => {
    // Hono's own middleware refuses with a response.
    if (error instanceof HTTPException) {
      const response = error.getResponse();
      Object.entries(HEADERS).forEach((header) => response.headers.set(...header));
      return response;
    }
    const isWrite = context.req.method !== "GET";
    const response = isWrite && error instanceof MissingRightError
      ? withheld()
      : isOfLogin(error) || UNAVAILABLE.some((type) => error instanceof type)
      ? failure(503, { error: "Service unavailable" }, { "retry-after": RETRY_AFTER_S })
      : failure(500, { error: "Internal Server Error" });
    requests.noteForRead(context, response.status);
    onError(error, errorContext(context, response.status));
    return response;
  });
}

/** The listener's details of a request that is answered with `status`. */
export function errorContext({ req }: Context, status: number): ErrorContext {
  return { method: req.method, path: req.path, status };
}

/** The methods that have a route at `path`. Called only if a request has found none. */
function allowedMethods(app: Hono, path: string): string[] {
  // An extra handler for every route could answer 405 too, but would turn the single handler of each hot route
  // into a chain. Handlers for all paths do not answer by themselves.
  const routed = new Set(
    app.routes.map(({ method }) => method).filter((method) => method !== "ALL"),
  );
  const allowed = [...routed].filter((method) =>
    app.router.match(method, path)[0].some(([[, route]]) => route.method === method)
  );
  if (allowed.includes("GET")) allowed.push("HEAD");
  return allowed.sort();
}

function failure(
  status: number,
  body: { readonly error: string; readonly issues?: readonly Issue[] },
  headers: Readonly<Record<string, string>> = {},
): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { "content-type": "application/json", ...HEADERS, ...headers },
  });
}
