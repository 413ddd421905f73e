/**
 * The answers and headers that several operations have in common, as the API's description tells them.
 *
 * @module
 */
import {
  type Answer,
  answer,
  type Header,
  header,
  json,
  type Parameter,
  reference,
} from "./_api_document.ts";

type Headers = Readonly<Record<string, Header>>;

/** What makes a 304 of a 200. */
export const IF_NONE_MATCH: Parameter = {
  name: "If-None-Match",
  in: "header",
  required: false,
  description: "Entity tags of what the client holds",
  schema: { type: "string" },
};

/** What the cache did. */
export const CACHE_STATUS: Header = header("Hit or miss, seconds left and tier (RFC 9211)", {
  pattern: "^Lookaside; (hit; ttl=-?\\d+|fwd=uri-miss(; stored)?); detail=(memory|redis|database)$",
});

/** Of answers that are good for once. */
export const UNSTORED: Headers = {
  "Cache-Control": header("Nobody may store it", { const: "no-store" }),
};

/** Of answers that may be stored. */
export const FRESH: Headers = {
  "Cache-Control": header("Whoever stores it asks again first", { const: "no-cache" }),
};

/** Of answers that are compared. */
export const ETAG: Headers = {
  "ETag": header("The same for the same data", { pattern: '^W/"[0-9a-f]{16}"$' }),
};

/** Of answers that were made of look-ups. */
export const CACHED: Headers = {
  ...ETAG,
  "Cache-Status": CACHE_STATUS,
  ...FRESH,
};

/** Of writes. */
export const INVALIDATION: Headers = {
  "Lookaside-Invalidation": header(
    "`pending`: the write stands, and its invalidation is applied once Redis can be reached",
    { enum: ["applied", "pending"] },
  ),
};

/** Of what passes by itself. */
export const RETRY: Headers = {
  "Retry-After": header("Seconds to wait", { pattern: "^\\d+$" }),
  ...UNSTORED,
};

/** Of the guard. */
export const CHALLENGE: Headers = {
  "WWW-Authenticate": header("Asks for a token", { pattern: "^Bearer " }),
};

/** 400 of what anyone may ask for. */
export const INVALID: Answer = answer(
  "The request cannot be understood",
  json("InvalidRequest"),
  UNSTORED,
);

/** 400 of what stands behind the guard. */
export const INVALID_OR_UNAUTHORIZED: Answer = answer(
  "The request cannot be understood, or `Authorization` is no bearer token",
  {
    "application/json": { schema: { anyOf: [reference("InvalidRequest"), reference("Failure")] } },
  },
  {},
);

/** 404 of a write. */
export const NO_USER: Answer = answer("There is no such user", json("Failure"), UNSTORED);

/** 500. */
export const DEFECT: Answer = answer("A defect of the service", json("Failure"), UNSTORED);

/** 429. */
export const TOO_MANY: Answer = answer("The client has asked for too much", json("Failure"), {
  "RateLimit": header("What is left of the limit, and seconds until it begins anew", {
    pattern: '^"\\w+";r=\\d+;t=\\d+$',
  }),
  "RateLimit-Policy": header("The limit: requests, and seconds", {
    pattern: '^"\\w+";q=\\d+;w=\\d+$',
  }),
  ...RETRY,
});

/** 503. */
export const UNAVAILABLE: Answer = answer(
  "Postgres is down or too busy, or the service stops",
  json("Failure"),
  RETRY,
);

/** What is wrong with a request that has a body, by status. */
export const BODY_ERRORS: Readonly<Record<number, Answer>> = {
  400: INVALID_OR_UNAUTHORIZED,
  413: answer("The body is too long", json("Failure"), UNSTORED),
  415: answer("The body is not JSON in UTF-8", json("Failure"), {
    "Accept": header("What it must be", { const: "application/json" }),
    ...UNSTORED,
  }),
};
