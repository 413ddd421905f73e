/**
 * The parts that routes describe themselves with. `zod-openapi` makes the document of them; no request
 * meets what stands here, for a validator around each handler would stand in front of every read.
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

/** What the routes tell of themselves. */
export interface Described {
  /** The operations. */
  readonly paths: Paths;
  /** The groups of operations that tables make. */
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  /** Whether that is all there is to know: not while Postgres is away at the start. */
  readonly isFinal: boolean;
}

/** One answer of an operation. */
export type Answer = ZodOpenApiResponseObject;

/** Headers of an answer but `Content-Type`, all of them always there. */
export type Headers = Readonly<Record<string, z.ZodType>>;

/** Any number of things. */
export const Count: z.ZodInt = z.int().min(0);

/** A duration. */
export const Milliseconds: z.ZodNumber = z.number().min(0);

/** The body of every error but {@linkcode InvalidRequest}. */
const Failure = z.object({
  error: z.string().meta({ description: "What went wrong" }),
}).meta({ id: "Failure" });

/** The body of the answer to a request that cannot be understood as it stands. */
const InvalidRequest = z.object({
  error: z.literal("Invalid request"),
  issues: z.array(z.object({
    path: z.string().meta({ description: "A parameter or field; empty for the body as a whole" }),
    message: z.string(),
  })).max(20),
}).meta({ id: "InvalidRequest" });

/** An answer with a body, of JSON where no `types` are given, or with none. */
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

/** An answer that tells in a sentence what went wrong. */
export function failure(description: string, headers: Headers): Answer {
  return answer(description, Failure, headers);
}

/** An answer of text of those media types. */
export function text(description: string, headers: Headers, ...types: string[]): Answer {
  return answer(description, z.string(), headers, types);
}

/** A header with a fixed form. */
export function header(description: string, schema: z.ZodType = z.string()): z.ZodType {
  return schema.meta({ description });
}

/** The header that makes a 304 of a 200. */
export const IF_NONE_MATCH: z.ZodObject = z.object({
  "If-None-Match": z.string().optional().meta({
    description: "Entity tags of the client's copy",
  }),
});

/** The header that makes a write conditional. */
export const IF_MATCH: z.ZodObject = z.object({
  "If-Match": z.string().optional().meta({
    description: "Entity tags of the content that may be overwritten, weak or strong; `*`: any",
  }),
});

/** Of answers that are good for once. */
export const UNSTORED: Headers = {
  "Cache-Control": header("Nobody may store it", z.literal("no-store")),
};

/** Of answers that may be stored. */
export const FRESH: Headers = {
  "Cache-Control": header("Whoever stores it asks again first", z.literal("no-cache")),
};

/** Of answers that are compared. */
export const ETAG: Headers = {
  "ETag": header("The same for the same data", z.string().regex(/^W\/"[0-9a-f]{16}"$/)),
};

/** Of answers that tell how the cache knew. */
export const CACHE_STATUS: Headers = {
  "Cache-Status": header(
    "Hit or miss, seconds left and tier (RFC 9211)",
    z.string().regex(
      /^Lookaside; (hit; ttl=-?\d+|fwd=uri-miss(; stored)?); detail=(memory|redis|database)$/,
    ),
  ),
};

/** Of answers that were made of look-ups. */
export const CACHED: Headers = { ...ETAG, ...CACHE_STATUS, ...FRESH };

/** Of what passes by itself. */
const RETRY: Headers = {
  "Retry-After": header("Seconds to wait", z.string().regex(/^\d+$/)),
  ...UNSTORED,
};

const CHALLENGE: Headers = {
  "WWW-Authenticate": header("Asks for a token", z.string().regex(/^Bearer /)),
};

/** 304. */
export function unchanged(headers: Headers): Answer {
  return answer("The client holds this already", undefined, headers);
}

/** 400 of what anyone may ask for. */
export const INVALID: Answer = answer(
  "The request cannot be understood",
  InvalidRequest,
  UNSTORED,
);

/** 400 of what stands behind the guard. */
export const INVALID_OR_UNAUTHORIZED: Answer = answer(
  "The request cannot be understood, or `Authorization` is no bearer token",
  z.union([InvalidRequest, Failure]),
  {},
);

/** 503 of what can be had again soon. */
export function away(description: string): Answer {
  return failure(description, RETRY);
}

/** 503. */
export const UNAVAILABLE: Answer = away("Postgres is down or too busy, or the service stops");

/** Errors of a request that has a body, by status. */
export const BODY_ERRORS: Readonly<Record<`${400 | 413 | 415}`, Answer>> = {
  400: INVALID_OR_UNAUTHORIZED,
  413: failure("The body is too long", UNSTORED),
  415: failure("The body is not JSON in UTF-8", {
    "Accept": header("The type that it must be", z.literal("application/json")),
    ...UNSTORED,
  }),
};

const CONFLICTING = z.object({
  error: z.string().meta({ description: "What went wrong" }),
  issues: InvalidRequest.shape.issues,
}).meta({ id: "RefusedWrite" });

/** Answers to writes that the database refuses. `412`: also to those whose condition does not hold. */
export function refused(changed?: 412): Readonly<Record<string, Answer>> {
  return {
    409: answer("The write conflicts with other rows", CONFLICTING, UNSTORED),
    ...(changed === undefined ? {} : {
      412: failure("The content is not that of `If-Match`", UNSTORED),
    }),
    422: answer("A rule of the table refuses the write", CONFLICTING, UNSTORED),
  };
}

const DEFECT = failure("A defect of the service", UNSTORED);

const GUARD: Readonly<Record<string, Answer>> = {
  400: failure("`Authorization` is no bearer token", CHALLENGE),
  401: failure("There is no good token", CHALLENGE),
  403: failure("No token is set, and not only this machine can ask", UNSTORED),
  429: failure("The client has asked for too much", {
    "RateLimit": header(
      "Requests left of the limit, and seconds until it begins anew",
      z.string().regex(/^"\w+";r=\d+;t=\d+$/),
    ),
    "RateLimit-Policy": header(
      "The limit: requests, and seconds",
      z.string().regex(/^"\w+";q=\d+;w=\d+$/),
    ),
    ...RETRY,
  }),
};

/** An operation that anyone may ask for, with each answer but that to a defect. */
export function operation(
  operationId: string,
  described: ZodOpenApiOperationObject,
): ZodOpenApiOperationObject {
  return { operationId, ...described, responses: { ...described.responses, 500: DEFECT } };
}

/** An operation behind the guard, with each answer but that to a defect and those of the guard. */
export function guarded(
  operationId: string,
  described: ZodOpenApiOperationObject,
): ZodOpenApiOperationObject {
  const responses = { ...GUARD, ...described.responses };
  return {
    ...operation(operationId, { ...described, responses }),
    security: [{ adminToken: [] }],
  };
}
