/**
 * Reads that Redis answers, 64 in flight, over 1,000 users, without a memory tier.
 *
 * @module
 */
import { BentoCache, bentostore } from "bentocache";
import { redisDriver } from "bentocache/drivers/redis";
import { Redis } from "ioredis";
import { Cache } from "../cache/mod.ts";
import { type OpenPlan, timed } from "./memory_hit.ts";
import type { Contender } from "./rounds.ts";
import { type User, USER_KEYS, userOfKey, USERS_COUNT } from "./users.ts";

const IN_FLIGHT = 64;
const TTL_MS = 300_000;

/** The Redis hit against peers. `reads` is how many one round makes. */
export async function redisHitPlan(redisUrl: string, reads: number): Promise<OpenPlan> {
  const bare = new Redis(redisUrl, { enableAutoPipelining: true });
  const plain = new Redis(redisUrl);
  for (const key of USER_KEYS) await bare.set(`bare:${key}`, JSON.stringify(userOfKey(key)));
  // The time-out is that of the others, none: on a busy machine a read must not turn to the loader.
  const cache = new Cache({
    url: redisUrl,
    prefix: "bench",
    memoryBytes: 0,
    ttlMs: TTL_MS,
    commandTimeoutMs: 60_000,
  });
  for (const key of USER_KEYS) await fill(cache, key);
  const bento = await warmBento(redisUrl);
  const contenders: Contender[] = [
    inFlight("ioredis GET, pipelined", reads, (key) => bare.get(`bare:${key}`)),
    inFlight("ioredis GET, one by one", reads, (key) => plain.get(`bare:${key}`)),
    inFlight("lookaside getOrLoad", reads, (key) => cache.getOrLoad(key, loadNothing)),
    inFlight(
      "bentocache getOrSet",
      reads,
      (key) => bento.getOrSet({ key, ttl: TTL_MS, factory: loadNothing }),
    ),
  ];
  return {
    plan: {
      title: `Redis hit, ${IN_FLIGHT} in flight`,
      unit: "µs",
      contenders,
      targets: [
        { of: "lookaside getOrLoad", against: "ioredis GET, pipelined", atLeast: 0.9 },
        { of: "lookaside getOrLoad", against: "bentocache getOrSet", atLeast: 1.6 },
      ],
    },
    close: async () => {
      await cache.close();
      await bento.disconnectAll();
      bare.disconnect();
      plain.disconnect();
    },
  };
}

async function warmBento(
  redisUrl: string,
): Promise<BentoCache<{ users: ReturnType<typeof bentostore> }>> {
  const { hostname, port } = new URL(redisUrl);
  const connection = { host: hostname, port: Number(port || 6379), enableAutoPipelining: true };
  const bento = new BentoCache({
    default: "users",
    stores: { users: bentostore().useL2Layer(redisDriver({ connection })) },
  });
  for (const key of USER_KEYS) {
    await bento.getOrSet({ key, ttl: TTL_MS, factory: () => userOfKey(key) });
  }
  return bento;
}

/** Keeps {@linkcode IN_FLIGHT} reads under way until `reads` are done. Microseconds per read. */
function inFlight(
  name: string,
  reads: number,
  read: (key: string) => Promise<unknown>,
): Contender {
  const work = async (n: number): Promise<void> => {
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < n) await read(USER_KEYS[next++ % USERS_COUNT] ?? "");
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
  };
  return { name, measure: () => timed(reads, work) };
}

/** Reads until Redis answers: it may not be connected yet, and a fill is stored behind its answer. */
async function fill(cache: Cache, key: string): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt++) {
    const { source } = await cache.getOrLoad(key, () => Promise.resolve(userOfKey(key)));
    if (source === "redis") return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`Cannot fill ${key}: Redis does not answer it`);
}

function loadNothing(): Promise<User> {
  return Promise.reject(new Error("Cannot load: every read has to be a hit"));
}
