/**
 * Users: reads through the cache, writes that invalidate it.
 *
 * @module
 */
import type { Context, Hono, MiddlewareHandler } from "hono";
import { z } from "zod";
import type { BatchLoader, Cache, Clock, EntryOptions, Invalidation } from "../cache/mod.ts";
import type { Change } from "../changes/apply.ts";
import type { User, Users } from "../db/users.ts";
import { Answers } from "./_answers.ts";
import {
  answer,
  BODY_ERRORS,
  CACHE_STATUS,
  CACHED,
  Count,
  failure,
  guarded,
  header,
  type Headers,
  IF_NONE_MATCH,
  INVALID,
  INVALID_OR_UNAUTHORIZED,
  operation,
  type Paths,
  UNAVAILABLE,
  unchanged,
  UNSTORED,
} from "./_description.ts";
import { errorContext, type ErrorListener, userNotFound } from "./_errors.ts";
import { invalidUserId, parseBody, parseUserId, parseUsersQuery } from "./_input.ts";
import type { Latencies } from "./_latencies.ts";
import type { RequestCounts } from "./_request_counts.ts";
import {
  PAGE_LIMIT_DEFAULT,
  UserBody,
  UserChanges,
  UserId,
  UsersQuery,
  type UsersQueryInput,
} from "./_schemas.ts";
import {
  USER_PREFIX,
  userIdOf,
  userKey,
  USERS_LIST_TAG,
  USERS_TAG,
  usersAfterKey,
  usersPageKey,
} from "./_user_keys.ts";
import type { InvalidationLog } from "./invalidation_log.ts";

/** Where users are read from and written to. */
export type UsersRepository = Pick<
  Users,
  "find" | "findMany" | "list" | "listAfter" | "create" | "replace" | "update" | "remove"
>;

/** What the routes of users need. */
export interface UsersDependencies {
  /** In front of the repository. */
  readonly cache: Pick<Cache, "getOrLoad" | "getOrLoadMany" | "delete" | "invalidateTags">;
  /** The source of truth. */
  readonly users: UsersRepository;
  /** For durations, and for what is left of an entry's life. */
  readonly clock: Clock;
  /** Told of every user that was answered, where answers are audited. */
  readonly audit?: { note(key: string): void };
  /** Fresh life of a page of users, in milliseconds. */
  readonly listTtlMs: number;
  /** Told what writes invalidate. */
  readonly invalidations: InvalidationLog;
  /** Told of invalidations that failed behind a write that succeeded. */
  readonly onError: ErrorListener;
}

/** What a change of the table `users` invalidates, whoever made it. */
export function usersInvalidation(
  { keys }: Pick<Change, "keys">,
): { readonly keys: readonly string[]; readonly tags: readonly string[] } {
  if (keys === undefined) return { keys: [], tags: [USERS_TAG] };
  return { keys: keys.map((id) => userKey(Number(id))), tags: [USERS_LIST_TAG] };
}

/** Loads users for cache keys of users, in one query. */
function userBatchLoader(users: Pick<UsersRepository, "findMany">): BatchLoader<User> {
  return async (keys) => {
    const found = await users.findMany(keys.map(userIdOf));
    return new Map([...found].map(([id, user]) => [userKey(id), user]));
  };
}

/** Loads one user for a cache key of users. */
export function loadUser(users: Pick<UsersRepository, "find">, key: string): Promise<unknown> {
  return users.find(userIdOf(key));
}

/** Reads the most requested users ahead of demand, in batches. Answers how many it read. */
export function warmUsers(
  cache: Pick<Cache, "warm">,
  users: Pick<UsersRepository, "findMany">,
  count: number,
): Promise<number> {
  return cache.warm(userBatchLoader(users), { count, keyPrefix: USER_PREFIX, tags: [USERS_TAG] });
}

/** Who is told of reads, which happen too often for anyone to stand between. */
interface Watched {
  readonly latencies: Latencies;
  readonly requests: RequestCounts;
}

/** Adds the routes of users. `guard` stands before those that write. */
export function addUserRoutes(
  app: Hono,
  dependencies: UsersDependencies & Watched,
  guard: MiddlewareHandler,
): void {
  addReads(app, dependencies);
  addWrites(app, dependencies, guard);
}

function addReads(
  app: Hono,
  { cache, users, clock, latencies, requests, listTtlMs, audit }: UsersDependencies & Watched,
): void {
  const answers = new Answers(clock, latencies);
  const pageOptions: EntryOptions<User[]> = { ttlMs: listTtlMs, tags: [USERS_TAG, USERS_LIST_TAG] };
  const userOptions: EntryOptions<User> = { tags: [USERS_TAG] };
  const loadMissing = userBatchLoader(users);

  const oneCounts = requests.reads("/users/:id");
  const listCounts = requests.reads("/users");

  app.get("/users/:id", async (context) => {
    const startedAtMs = answers.now();
    const text = context.req.param("id");
    const id = parseUserId(text);
    if (id === undefined) return oneCounts.noted(invalidUserId(text));
    const key = userKey(id);
    const lookup = await cache.getOrLoad(key, () => users.find(id), userOptions);
    if (audit !== undefined && lookup.source !== "load") audit.note(key);
    if (lookup.text === null) {
      return oneCounts.noted(userNotFound({ "cache-status": answers.status(lookup) }));
    }
    return oneCounts.noted(answers.one(context, lookup, { startedAtMs }));
  });

  app.get("/users", async (context) => {
    const startedAtMs = answers.now();
    const query = parseUsersQuery(context);
    if (query instanceof Response) return listCounts.noted(query);
    if (query.ids !== undefined) {
      const keys = [...new Set(query.ids)].map(userKey);
      const lookups = await cache.getOrLoadMany(keys, loadMissing, userOptions);
      return listCounts.noted(answers.many(context, lookups, { startedAtMs }));
    }
    const { key, members, load } = pageOf(query, users);
    const lookup = await cache.getOrLoad(key, load, pageOptions);
    return listCounts.noted(answers.one(context, lookup, { startedAtMs, members }));
  });
}

/** One page of users: its key, what the answer says of it, and how to load it. */
interface Page {
  readonly key: string;
  readonly members: string;
  load(): Promise<User[]>;
}

function pageOf(query: UsersQueryInput, users: UsersRepository): Page {
  const { page = 1, limit = PAGE_LIMIT_DEFAULT, after } = query;
  if (after !== undefined) {
    return {
      key: usersAfterKey(after, limit),
      members: `"after":${after},`,
      load: () => users.listAfter({ after, limit }),
    };
  }
  return {
    key: usersPageKey(page, limit),
    members: `"page":${page},`,
    load: () => users.list({ page, limit }),
  };
}

function addWrites(app: Hono, dependencies: UsersDependencies, guard: MiddlewareHandler): void {
  const { users } = dependencies;

  app.post("/users", guard, async (context) => {
    const fields = await parseBody(context, UserBody);
    if (fields instanceof Response) return fields;
    const user = await users.create(fields);
    // The id was free until now, which may be cached: "does not exist" is invalidated, too.
    const invalidation = await invalidate(context, user.id, dependencies);
    context.header("location", `/users/${user.id}`);
    return written(context, { user, done: "created", invalidation, status: 201 });
  });

  app.put("/users/:id", guard, async (context) => {
    const id = parseUserId(context.req.param("id"));
    if (id === undefined) return invalidUserId(context.req.param("id"));
    const fields = await parseBody(context, UserBody);
    if (fields instanceof Response) return fields;
    const user = await users.replace(id, fields);
    if (user === undefined) return userNotFound();
    const invalidation = await invalidate(context, id, dependencies);
    return written(context, { user, done: "updated", invalidation, status: 200 });
  });

  app.patch("/users/:id", guard, async (context) => {
    const id = parseUserId(context.req.param("id"));
    if (id === undefined) return invalidUserId(context.req.param("id"));
    const changes = await parseBody(context, UserChanges);
    if (changes instanceof Response) return changes;
    const user = await users.update(id, changes);
    if (user === undefined) return userNotFound();
    const invalidation = await invalidate(context, id, dependencies);
    return written(context, { user, done: "updated", invalidation, status: 200 });
  });

  app.delete("/users/:id", guard, async (context) => {
    const id = parseUserId(context.req.param("id"));
    if (id === undefined) return invalidUserId(context.req.param("id"));
    if (!await users.remove(id)) return userNotFound();
    context.header(INVALIDATION_HEADER, await invalidate(context, id, dependencies));
    return context.body(null, 204);
  });
}

/** Says `applied` or `pending` on every write: the answer to a DELETE has no body to say it in. */
const INVALIDATION_HEADER = "lookaside-invalidation";

/**
 * Invalidates a user and every page of users. Call it once the write has been committed, and answer
 * once it resolves.
 *
 * A write that failed invalidates nothing, although one whose connection broke may have been committed:
 * whoever sends writes while Postgres is down would empty the cache that is answering for it. The change
 * feed invalidates what was committed.
 */
async function invalidate(
  context: Context,
  id: number,
  { cache, invalidations, onError }: UsersDependencies,
): Promise<Invalidation> {
  const outcomes = await Promise.allSettled([
    cache.delete(userKey(id)),
    cache.invalidateTags(USERS_LIST_TAG),
  ]);
  let invalidation: Invalidation = "applied";
  for (const outcome of outcomes) {
    if (outcome.status === "fulfilled" && outcome.value === "applied") continue;
    invalidation = "pending";
    // The write stands, so it must not be answered as if it had failed.
    if (outcome.status === "rejected") onError(outcome.reason, errorContext(context, 200));
  }
  const names = { keys: [userKey(id)], tags: [USERS_LIST_TAG] };
  invalidations.note("write", names, { pending: invalidation === "pending" });
  return invalidation;
}

function written(
  context: Context,
  { user, done, invalidation, status }: {
    readonly user: User;
    readonly done: "created" | "updated";
    readonly invalidation: Invalidation;
    readonly status: 200 | 201;
  },
): Response {
  context.header(INVALIDATION_HEADER, invalidation);
  const message = invalidation === "applied"
    ? `User ${done} and cache invalidated`
    : `User ${done}; cache invalidation pending`;
  return context.json({ message, data: user }, status);
}

const INVALIDATION: Headers = {
  "Lookaside-Invalidation": header(
    "`pending`: the write stands, and its invalidation is applied once Redis can be reached",
    z.enum(["applied", "pending"]),
  ),
};

/** The columns are older than this service, which alone never leaves name or email empty. */
const UserRow = z.object({
  id: UserId,
  name: z.string().nullable(),
  email: z.string().nullable(),
  bio: z.string().nullable(),
  created_at: z.iso.datetime().meta({ description: "When the user was made" }),
}).meta({ id: "User", description: "A user" });

/** Describes the routes of users. */
export function describeUsers(): Paths {
  const path = z.object({ id: UserId });
  return {
    "/users": {
      get: describeList(),
      post: guarded("createUser", {
        summary: "Makes a user",
        tags: ["Users"],
        requestBody: bodyOf(UserBody),
        responses: {
          201: answer("The user", writtenAnswer("created"), {
            "Location": header("The user's path", z.string().regex(/^\/users\/\d+$/)),
            ...INVALIDATION,
          }),
          ...BODY_ERRORS,
          503: UNAVAILABLE,
        },
      }),
    },
    "/users/{id}": {
      get: describeOne(),
      put: describeOverwrite("replaceUser", "Overwrites a user", UserBody),
      patch: describeOverwrite("updateUser", "Overwrites fields of a user", UserChanges),
      delete: guarded("deleteUser", {
        summary: "Deletes a user",
        tags: ["Users"],
        requestParams: { path },
        responses: {
          204: answer("It is deleted", undefined, INVALIDATION),
          400: INVALID_OR_UNAUTHORIZED,
          404: failure("There is no such user", UNSTORED),
          503: UNAVAILABLE,
        },
      }),
    },
  };
}

const source = z.enum(["database", "cache"]).meta({ description: "Where the data came from" });
const duration = z.string().regex(/^\d+\.\d+ms$/).meta({
  description: "How long it took to get, in milliseconds",
  example: "0.1ms",
});

function describeList(): Paths[string]["get"] & object {
  const UsersAnswer = z.object({
    source: source.meta({ description: "`cache` only if every part came from there" }),
    duration,
    page: z.exactOptional(z.int().min(1)).meta({
      description: "The page, unless others were asked for",
    }),
    after: z.exactOptional(Count).meta({ description: "The id that was asked for as `after`" }),
    data: z.array(UserRow),
  }).meta({ id: "UsersAnswer" });
  return operation("listUsers", {
    summary: "Lists users",
    description:
      "By page, after an id, or by ids. `page` and `after` exclude each other; `ids` excludes all else.",
    tags: ["Users"],
    requestParams: { query: UsersQuery, header: IF_NONE_MATCH },
    responses: {
      200: answer("The users", UsersAnswer, CACHED),
      304: unchanged(CACHED),
      400: INVALID,
      503: UNAVAILABLE,
    },
  });
}

function describeOne(): Paths[string]["get"] & object {
  const UserAnswer = z.object({ source, duration, data: UserRow }).meta({ id: "UserAnswer" });
  return operation("getUser", {
    summary: "Reads a user",
    tags: ["Users"],
    requestParams: { path: z.object({ id: UserId }), header: IF_NONE_MATCH },
    responses: {
      200: answer("The user", UserAnswer, CACHED),
      304: unchanged(CACHED),
      400: INVALID,
      404: failure("There is no such user", { ...CACHE_STATUS, ...UNSTORED }),
      503: UNAVAILABLE,
    },
  });
}

function describeOverwrite(
  operationId: string,
  summary: string,
  schema: z.ZodType,
): Paths[string]["put"] & object {
  return guarded(operationId, {
    summary,
    tags: ["Users"],
    requestParams: { path: z.object({ id: UserId }) },
    requestBody: bodyOf(schema),
    responses: {
      200: answer("The user as it is now", writtenAnswer("updated"), INVALIDATION),
      ...BODY_ERRORS,
      404: failure("There is no such user", UNSTORED),
      503: UNAVAILABLE,
    },
  });
}

function writtenAnswer(done: "created" | "updated"): z.ZodType {
  return z.object({
    message: z.enum([
      `User ${done} and cache invalidated`,
      `User ${done}; cache invalidation pending`,
    ]),
    data: UserRow,
  });
}

function bodyOf(
  schema: z.ZodType,
): { required: true; content: Record<string, { schema: z.ZodType }> } {
  return { required: true, content: { "application/json": { schema } } };
}
