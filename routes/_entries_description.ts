/**
 * The description of the routes that show and invalidate single entries; the dashboard serves them.
 *
 * @module
 */
import { z } from "zod";
import type { HeldEntry, Inspection } from "../cache/mod.ts";
import { answer, Count, guarded, type Paths, UNAVAILABLE, UNSTORED } from "./_description.ts";

/** The longest key of an entry, in UTF-16 code units. */
const KEY_LENGTH_MAX = 200;

/** The key of an entry, as the cache accepts it. */
const EntryKey = z.string()
  // deno-lint-ignore no-control-regex -- control characters are what it is there to refuse
  .regex(/^[^{}\u0000-\u001f\u007f]+$/, {
    error: "Expected a key without braces and control characters",
  })
  .refine((key) => key.isWellFormed(), { error: "Expected a key without unpaired surrogates" })
  .refine((key) => key.length <= KEY_LENGTH_MAX, {
    error: `Expected at most ${KEY_LENGTH_MAX} characters`,
  })
  .meta({ description: "The entry's key", maxLength: KEY_LENGTH_MAX, example: "users:1" });

const Held: z.ZodType<HeldEntry> = z.object({
  negative: z.boolean().meta({ description: "Whether it records that the value does not exist" }),
  bytes: Count.meta({
    description: "In memory as accounted, in Redis as stored",
  }),
  ageMs: z.number().meta({ description: "Since it was loaded" }),
  freshLeftMs: z.number().meta({ description: "Until it is stale; negative afterwards" }),
  staleLeftMs: z.number().meta({ description: "Until the end of its grace" }),
  tags: z.array(z.string()).max(32),
  valid: z.boolean().meta({ description: "Whether its tags are unchanged, and the tier trusted" }),
});

/** The answer of `GET /cache/entries/:key`. */
const CacheEntry: z.ZodType<
  { readonly [Tier in "memory" | "redis"]: HeldEntry | null } & Pick<Inspection, "redisReached"> & {
    readonly key: string;
  }
> = z.object({
  key: EntryKey,
  memory: Held.nullable().meta({ description: "What this instance's memory holds" }),
  redis: Held.nullable().meta({ description: "What Redis holds, null if that cannot be read" }),
  redisReached: z.boolean().meta({ description: "Whether Redis could be asked" }),
}).meta({ id: "CacheEntry" });

/** Describes the routes of entries. */
export function describeEntries(): Paths {
  const path = z.object({ key: EntryKey });
  const EntryInvalidated = z.object({
    message: z.enum(["Entry invalidated", "Entry invalidation pending"]),
  }).meta({ id: "EntryInvalidated" });
  return {
    "/cache/entries/{key}": {
      get: guarded("cacheEntry", {
        summary: "Shows what each tier holds for a key",
        description: "Counts no hit, loads nothing, and does not mark the entry as recently used.",
        tags: ["Cache"],
        requestParams: { path },
        responses: {
          200: answer("What they hold", CacheEntry, UNSTORED),
          503: UNAVAILABLE,
        },
      }),
      delete: guarded("invalidateEntry", {
        summary: "Invalidates one entry",
        tags: ["Cache"],
        requestParams: { path },
        responses: {
          200: answer("It is invalid, or will be", EntryInvalidated, {}),
          503: UNAVAILABLE,
        },
      }),
    },
  };
}
