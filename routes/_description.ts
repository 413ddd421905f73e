/**
 * Helpers with which routes describe themselves; `zod-openapi` makes the document. They do not validate
 * requests: a validator around each handler would slow down every read.
 *
 * @module
 */
import { z } from "zod";
import type {
  ZodOpenApiOperationObject,
  ZodOpenApiPathsObject,
  ZodOpenApiResponseObject,
} from "zod-openapi";

/** Operations by path and method. */
export type Paths = ZodOpenApiPathsObject;

/** The routes' descriptions of themselves. */
export interface Described {
  /** The operations. */
  readonly paths: Paths;
  /** The groups of operations of tables. */
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  /** True if the description is complete; false while Postgres has been down since the start. */
  readonly isFinal: boolean;
}

/** One response of an operation. */
export type Answer = ZodOpenApiResponseObject;

/** Headers of a response besides `Content-Type`; all of them are always sent, unless they are optional. */
export type Headers = Readonly<Record<string, z.ZodType>>;

export const Count: z.ZodInt = z.int().min(0);

/** A duration. */
export const Milliseconds: z.ZodNumber = z.number().min(0);

/** The body of every error but {@linkcode InvalidRequest}. */
const Failure = z.object({
  error: z.string().meta({ description: "What went wrong" }),
}).meta({ id: "Failure" });

/** The body of the response to an invalid request. */
const InvalidRequest = z.object({
  error: z.literal("Invalid request"),
  issues: z.array(z.object({
    path: z.string().meta({ description: "A parameter or field; empty for the body as a whole" }),
    message: z.string(),
  })).max(20),
}).meta({ id: "InvalidRequest" });

/** A response with a body, of JSON unless `types` are given, or without one. */
export function answer(
  description: string,
  schema: z.ZodType | undefined,
  headers: Headers,
  types: readonly string[] = ["application/json"],
): Answer {
  return {
    description,
    ...(Object.keys(headers).length === 0 ? {} : { headers: z.object(headers) }),
    ...(schema === undefined ? {} : {
      content: Object.fromEntries(types.map((type) => [type, { schema }])),
    }),
  };
}

/** A response whose text says what went wrong. */
export function failure(description: string, headers: Headers): Answer {
  return answer(description, Failure, headers);
}

/** A text response with those media types. */
export function text(description: string, headers: Headers, ...types: string[]): Answer {
  return answer(description, z.string(), headers, types);
}

/** A header with a fixed form. */
export function header(description: string, schema: z.ZodType = z.string()): z.ZodType {
  return schema.meta({ description });
}

/** The header that allows a 304. */
export const IF_NONE_MATCH: z.ZodObject = z.object({
  "If-None-Match": z.string().optional().meta({
    description: "Entity tags of the client's copy",
  }),
});

/** The headers that make a write conditional. */
export const WRITE_CONDITIONS: z.ZodObject = z.object({
  "If-Match": z.string().optional().meta({
    description: "Entity tags of the content that may be overwritten, weak or strong; `*`: any",
  }),
  "If-None-Match": z.string().optional().meta({
    description: "Entity tags of content that may not be overwritten; `*`: any",
  }),
});

/** Headers of responses that must not be stored. */
export const UNSTORED: Headers = {
  "Cache-Control": header("Nobody may store it", z.literal("no-store")),
};

/** Headers of responses that may be stored. */
export const FRESH: Headers = {
  "Cache-Control": header("Whoever stores it asks again first", z.literal("no-cache")),
};

/** Headers of responses that can be compared. */
export const ETAG: Headers = {
  "ETag": header("The same for the same data", z.string().regex(/^W\/"[0-9a-f]{16}"$/)),
};

/** Headers that say how the cache handled the request. */
export const CACHE_STATUS: Headers = {
  "Cache-Status": header(
    "Hit or miss, seconds left and tier (RFC 9211)",
    z.string().regex(
      /^Lookaside; (hit; ttl=-?\d+|fwd=uri-miss(; stored)?); detail=(memory|redis|database)$/,
    ),
  ),
};

/** Headers of responses made from look-ups. */
export const CACHED: Headers = { ...ETAG, ...CACHE_STATUS, ...FRESH };

/** Headers of temporary failures. */
const RETRY: Headers = {
  "Retry-After": header("Seconds to wait", z.string().regex(/^\d+$/)),
  ...UNSTORED,
};

const CHALLENGE: Headers = {
  ...UNSTORED,
  "WWW-Authenticate": header("Asks for a token", z.string().regex(/^Bearer /)),
};

/** 304. */
export function unchanged(headers: Headers): Answer {
  return answer("The client holds this already", undefined, headers);
}

/** 400 of public operations. */
const INVALID = answer("The request cannot be understood", InvalidRequest, UNSTORED);

/** 400 of guarded operations. */
const INVALID_OR_UNAUTHORIZED: Answer = answer(
  "The request cannot be understood, or `Authorization` is no bearer token",
  z.union([InvalidRequest, Failure]),
  UNSTORED,
);

/** 503 of temporary failures. */
export function away(description: string): Answer {
  return failure(description, RETRY);
}

/** 503. */
export const UNAVAILABLE: Answer = away("Postgres is down or too busy, or the service stops");

/** Errors of a request that has a body, by status. */
export const BODY_ERRORS: Readonly<Record<`${408 | 413 | 415}`, Answer>> = {
  408: failure("The body did not arrive before the service stopped, or not as a whole", UNSTORED),
  413: failure("The body is too long", UNSTORED),
  415: failure("The body is not JSON in UTF-8", {
    "Accept": header("The type that it must be", z.literal("application/json").optional()),
    "Accept-Encoding": header("Not compressed", z.literal("identity").optional()),
    ...UNSTORED,
  }),
};

const CONFLICTING = z.object({ ...Failure.shape, issues: InvalidRequest.shape.issues })
  .meta({ id: "RefusedWrite" });

/** Responses to writes that the database refuses. */
export const REFUSED: Readonly<Record<string, Answer>> = {
  409: answer("The write conflicts with other rows", CONFLICTING, UNSTORED),
  422: answer("A rule of the table refuses the write", CONFLICTING, UNSTORED),
};

/** The same, and the response to a condition that does not hold. */
export const REFUSED_OR_CHANGED: Readonly<Record<string, Answer>> = {
  ...REFUSED,
  412: failure("`If-Match` or `If-None-Match` excludes the content", UNSTORED),
};

const DEFECT = failure("A defect of the service", UNSTORED);

const GUARD: Readonly<Record<string, Answer>> = {
  400: INVALID_OR_UNAUTHORIZED,
  401: failure("There is no good token", CHALLENGE),
  403: failure(
    "No token is set, and not only this machine can ask; or the service itself lacks a right in Postgres",
    UNSTORED,
  ),
  429: failure("The client has asked for too much", {
    "RateLimit": header(
      "Requests left of each limit, and seconds until it begins anew",
      z.string().regex(/^"\w+";r=\d+;t=\d+(, "\w+";r=\d+;t=\d+)*$/),
    ),
    "RateLimit-Policy": header(
      "Each limit: requests, and seconds; `local` while only this process counts",
      z.string().regex(/^"\w+";q=\d+;w=\d+(;local)?(, "\w+";q=\d+;w=\d+(;local)?)*$/),
    ),
    ...RETRY,
  }),
};

/** A public operation that reads rows, with all its responses except those of every such one. */
export function reading(
  operationId: string,
  described: ZodOpenApiOperationObject,
): ZodOpenApiOperationObject {
  const errors = { 400: INVALID, 500: DEFECT, 503: UNAVAILABLE };
  return { operationId, ...described, responses: { ...described.responses, ...errors } };
}

/** A guarded operation, with all its responses except 500 and those of the guard. */
export function guarded(
  operationId: string,
  described: ZodOpenApiOperationObject,
): ZodOpenApiOperationObject {
  const responses = { ...GUARD, ...described.responses, 500: DEFECT };
  return { operationId, ...described, responses, security: [{ adminToken: [] }] };
}
