/**
 * What answers hold. The API's description is generated from these and from the schemas that requests
 * are validated with; answers are made without them, and tests hold the two together.
 *
 * @module
 */
import { z } from "zod";
import type {
  CacheStats,
  HeldEntry,
  Inspection,
  LatencyStats,
  MemoryTierStats,
  TierStats,
} from "../cache/mod.ts";
import type { ChangeFeedStats } from "../changes/relay.ts";
import { EntryKey, UserId } from "./_schemas.ts";

const Count = z.int().min(0);
const Ratio = z.number().min(0).max(1);
const Milliseconds = z.number().min(0);

/** A user. The columns are older than this service, which alone never leaves name or email empty. */
export const User: z.ZodType = z.object({
  id: UserId,
  name: z.string().nullable(),
  email: z.string().nullable(),
  bio: z.string().nullable(),
  created_at: z.iso.datetime().meta({ description: "When the user was made" }),
}).meta({ description: "A user" });

const source = z.enum(["database", "cache"]).meta({ description: "Where the data came from" });
const duration = z.string().regex(/^\d+\.\d+ms$/).meta({
  description: "How long it took to get, in milliseconds",
  example: "0.1ms",
});

/** The answer of `GET /users/:id`. */
export const UserAnswer: z.ZodType = z.object({ source, duration, data: User });

/** The answer of `GET /users`. */
export const UsersAnswer: z.ZodType = z.object({
  source: source.meta({ description: "`cache` only if every part came from there" }),
  duration,
  page: z.exactOptional(z.int().min(1)).meta({
    description: "The page, unless others were asked for",
  }),
  after: z.exactOptional(Count).meta({ description: "The id that was asked for as `after`" }),
  data: z.array(User),
});

/** The answer of `POST /users`. */
export const UserCreated: z.ZodType = z.object({
  message: z.enum([
    "User created and cache invalidated",
    "User created; cache invalidation pending",
  ]),
  data: User,
});

/** The answer of `PUT` and `PATCH /users/:id`. */
export const UserUpdated: z.ZodType = z.object({
  message: z.enum([
    "User updated and cache invalidated",
    "User updated; cache invalidation pending",
  ]),
  data: User,
});

const tier = { hits: Count, misses: Count, hitRate: Ratio };
const Tier: z.ZodType<TierStats> = z.object(tier);
const MemoryTier: z.ZodType<MemoryTierStats> = z.object({
  ...tier,
  entries: Count,
  bytes: Count,
  evictions: Count,
});
const Latency: z.ZodType<LatencyStats> = z.object({
  count: Count,
  p50Ms: Milliseconds,
  p99Ms: Milliseconds,
  maxMs: Milliseconds,
});
const Changes: z.ZodType<ChangeFeedStats> = z.object({
  applied: Count,
  replayed: Count,
  backlog: Count,
  lagMs: Milliseconds,
});

/** The answer of `GET /cache/stats`. */
export const CacheStatsAnswer: z.ZodType<
  CacheStats & {
    readonly info: string | null;
    readonly keyspace: string | null;
    readonly totalKeys: number | null;
    readonly changes: ChangeFeedStats | null;
    readonly audit: { readonly audited: number; readonly stale: number } | null;
  }
> = z.object({
  info: z.string().nullable().meta({ description: "`INFO stats` of Redis, null without it" }),
  keyspace: z.string().nullable().meta({ description: "`INFO keyspace` of Redis" }),
  totalKeys: Count.nullable().meta({ description: "`DBSIZE` of Redis" }),
  memory: MemoryTier,
  redis: Tier,
  loads: Count,
  loadErrors: Count,
  coalesced: Count,
  refusedFills: Count,
  refreshes: Count,
  staleHits: Count,
  negativeHits: Count,
  rejectedLoads: Count,
  unreadable: Count,
  invalidations: Count,
  pendingInvalidations: Count,
  redisErrors: Count,
  coherent: z.boolean().meta({ description: "Whether the memory tier may be trusted now" }),
  feedDrops: Count,
  breaker: z.enum(["closed", "open", "half-open"]),
  redisLatency: Latency,
  loadLatency: Latency,
  changes: Changes.nullable().meta({ description: "The change feed, null while Postgres is down" }),
  audit: z.object({ audited: Count, stale: Count }).nullable().meta({
    description: "What the audit of answers found, null where there is none",
  }),
});

/** The answer of `DELETE /cache`. */
export const CacheCleared: z.ZodType = z.object({
  message: z.enum(["Cache cleared", "Cache clear pending"]),
});

const Held: z.ZodType<HeldEntry> = z.object({
  negative: z.boolean().meta({ description: "Whether it says that there is no such thing" }),
  bytes: Count.meta({
    description: "In memory what it is accounted for, in Redis as it is stored",
  }),
  ageMs: z.number().meta({ description: "Since it was loaded" }),
  freshLeftMs: z.number().meta({ description: "Of its fresh life; below 0 past it" }),
  staleLeftMs: z.number().meta({ description: "Until the end of its grace" }),
  tags: z.array(z.string()).max(32),
  valid: z.boolean().meta({ description: "Whether its tags are unchanged, and the tier trusted" }),
});

/** The answer of `GET /cache/entries/:key`. */
export const CacheEntry: z.ZodType<
  { readonly [Tier in "memory" | "redis"]: HeldEntry | null } & Pick<Inspection, "redisReached"> & {
    readonly key: string;
  }
> = z.object({
  key: EntryKey,
  memory: Held.nullable().meta({ description: "What this instance's memory holds" }),
  redis: Held.nullable().meta({ description: "What Redis holds, null if that cannot be read" }),
  redisReached: z.boolean().meta({ description: "Whether Redis could be asked" }),
});

/** The answer of `DELETE /cache/entries/:key`. */
export const EntryInvalidated: z.ZodType = z.object({
  message: z.enum(["Entry invalidated", "Entry invalidation pending"]),
});

/** The answer of `POST /cache/warm`. */
export const CacheWarmed: z.ZodType = z.object({
  message: z.literal("Cache warmed"),
  warmed: Count.meta({ description: "How many users were read" }),
});

/** The answer of `GET /healthz`. */
export const Alive: z.ZodType = z.object({ status: z.literal("ok") });

/** The answer of `GET /readyz`. */
export const Ready: z.ZodType = z.object({ status: z.literal("ready") });

/** Every error but {@linkcode InvalidRequest}. */
export const Failure: z.ZodType = z.object({
  error: z.string().meta({ description: "What went wrong" }),
});

/** The error of a request that cannot be understood as it stands. */
export const InvalidRequest: z.ZodType = z.object({
  error: z.literal("Invalid request"),
  issues: z.array(z.object({
    path: z.string().meta({ description: "A parameter or a field; empty: the body as a whole" }),
    message: z.string(),
  })).max(20),
});
