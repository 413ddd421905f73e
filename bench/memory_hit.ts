/**
 * A read that memory answers, one after another, over 1,000 users. Each contender has a loop of its
 * own, so that none is slowed down by code that the engine has specialised for another.
 *
 * @module
 */
import { BentoCache, bentostore } from "bentocache";
import { memoryDriver } from "bentocache/drivers/memory";
import { createCache } from "cache-manager";
import { Cacheable } from "cacheable";
import { Loader } from "layered-loader";
import { LRUCache } from "lru-cache";
import postgres from "postgres";
import { Cache } from "../cache/mod.ts";
import type { Contender } from "./rounds.ts";
import type { Plan } from "./row.ts";
import { type User, USER_KEYS, userOfKey, USERS_COUNT } from "./users.ts";

const TTL_MS = 300_000;

/** The contenders share the process, so `close` them together. */
export interface OpenPlan {
  /** What to measure. */
  readonly plan: Plan;
  /** Closes what it holds. */
  readonly close: () => Promise<void>;
}

/** Sizes of a run. */
export interface Effort {
  /** Reads of one round of a fast contender. */
  readonly reads: number;
  /** The database with the users. */
  readonly databaseUrl: string;
}

/** The memory hit against peers. */
export async function memoryHitPlan({ reads }: Effort): Promise<OpenPlan> {
  const cache = await warmLookaside();
  const lru = new LRUCache<string, User>({ max: 10_000, ttl: TTL_MS });
  for (const key of USER_KEYS) lru.set(key, userOfKey(key));
  const contenders: Contender[] = [
    lookaside(cache, reads),
    {
      name: "lookaside getOrLoad, value()",
      measure: () =>
        timed(reads / 4, async (n) => {
          for (let i = 0; i < n; i++) (await cache.getOrLoad(keyAt(i), loadNothing)).value();
        }),
    },
    {
      name: "lru-cache get",
      measure: () =>
        timed(reads, (n) => {
          for (let i = 0; i < n; i++) lru.get(keyAt(i));
          return Promise.resolve();
        }),
    },
    await layeredLoader(reads),
    await cacheManager(reads / 2),
    await bentoCache("bentocache getOrSet", { reads: reads / 4, serialize: true }),
    await bentoCache("bentocache, serialize: false", { reads: reads / 4, serialize: false }),
    await cacheable(reads / 8),
  ];
  return {
    plan: {
      title: "Memory hit",
      unit: "µs",
      contenders,
      targets: [
        { of: "lookaside getOrLoad", against: "layered-loader get", atLeast: 1 },
        { of: "lookaside getOrLoad", against: "bentocache getOrSet", atLeast: 10 },
        { of: "lookaside getOrLoad", against: "cacheable get", atLeast: 30 },
      ],
    },
    close: () => cache.close(),
  };
}

/** The memory hit against the query it saves. */
export async function primaryKeyPlan({ reads, databaseUrl }: Effort): Promise<OpenPlan> {
  const cache = await warmLookaside();
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => undefined });
  const query: Contender = {
    name: "primary-key query",
    measure: () =>
      timed(Math.max(500, reads / 250), async (n) => {
        for (let i = 0; i < n; i++) {
          const id = i % USERS_COUNT + 1;
          await sql`SELECT id, name, email, bio, created_at FROM users WHERE id = ${id}`;
        }
      }),
  };
  return {
    plan: {
      title: "Memory hit against the query",
      unit: "µs",
      contenders: [lookaside(cache, reads), query],
      targets: [{ of: "lookaside getOrLoad", against: "primary-key query", atLeast: 300 }],
    },
    close: async () => {
      await cache.close();
      await sql.end();
    },
  };
}

/** Microseconds per read of a loop over `reads` reads. */
export async function timed(reads: number, loop: (n: number) => Promise<void>): Promise<number> {
  const startedAtMs = performance.now();
  await loop(reads);
  return (performance.now() - startedAtMs) / reads * 1_000;
}

async function warmLookaside(): Promise<Cache> {
  const cache = new Cache({ url: "memory:", ttlMs: TTL_MS });
  for (const key of USER_KEYS) await cache.getOrLoad(key, () => Promise.resolve(userOfKey(key)));
  return cache;
}

function lookaside(cache: Cache, reads: number): Contender {
  return {
    name: "lookaside getOrLoad",
    measure: () =>
      timed(reads, async (n) => {
        for (let i = 0; i < n; i++) await cache.getOrLoad(keyAt(i), loadNothing);
      }),
  };
}

async function layeredLoader(reads: number): Promise<Contender> {
  const loader = new Loader<User>({
    inMemoryCache: { cacheType: "lru-map", ttlInMsecs: TTL_MS, maxItems: 10_000 },
    dataSources: [{
      name: "users",
      get: (key: string) => Promise.resolve(userOfKey(key)),
      getMany: (keys: string[]) => Promise.resolve(keys.map(userOfKey)),
    }],
  });
  for (const key of USER_KEYS) await loader.get(key);
  return {
    name: "layered-loader get",
    measure: () =>
      timed(reads, async (n) => {
        for (let i = 0; i < n; i++) await loader.get(keyAt(i));
      }),
  };
}

async function cacheManager(reads: number): Promise<Contender> {
  const cache = createCache({ ttl: TTL_MS });
  for (const key of USER_KEYS) await cache.set(key, userOfKey(key));
  return {
    name: "cache-manager get",
    measure: () =>
      timed(reads, async (n) => {
        for (let i = 0; i < n; i++) await cache.get(keyAt(i));
      }),
  };
}

async function bentoCache(
  name: string,
  options: { readonly reads: number; readonly serialize: boolean },
): Promise<Contender> {
  const l1 = memoryDriver({ maxItems: 10_000, serialize: options.serialize });
  const bento = new BentoCache({
    default: "users",
    stores: { users: bentostore().useL1Layer(l1) },
  });
  const read = (key: string) => bento.getOrSet({ key, ttl: TTL_MS, factory: () => userOfKey(key) });
  for (const key of USER_KEYS) await read(key);
  return {
    name,
    measure: () =>
      timed(options.reads, async (n) => {
        for (let i = 0; i < n; i++) await read(keyAt(i));
      }),
  };
}

async function cacheable(reads: number): Promise<Contender> {
  const cache = new Cacheable({ ttl: TTL_MS });
  for (const key of USER_KEYS) await cache.set(key, userOfKey(key));
  return {
    name: "cacheable get",
    measure: () =>
      timed(reads, async (n) => {
        for (let i = 0; i < n; i++) await cache.get(keyAt(i));
      }),
  };
}

function keyAt(index: number): string {
  return USER_KEYS[index % USERS_COUNT] ?? "";
}

function loadNothing(): Promise<User> {
  return Promise.reject(new Error("Cannot load: every read has to be a hit"));
}
