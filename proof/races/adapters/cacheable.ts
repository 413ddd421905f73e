import type { EventEmitter } from "node:events";
import KeyvRedis from "@keyv/redis";
import { RedisMessageProvider } from "@qified/redis";
import { Cacheable } from "cacheable";
import type { RaceAdapter } from "../adapter.ts";

const CONNECTED_MS = 3_000;

/** Memory, Redis behind it, and CacheableSync between the instances. */
export const adapter: RaceAdapter = {
  name: "cacheable",
  version: "2.5.0",
  docs: "https://github.com/jaredwray/cacheable/tree/main/packages/cacheable#readme",
  note: "memory, @keyv/redis as the second layer, CacheableSync over Redis",
  open({ redisUrl, db }) {
    const secondary = new KeyvRedis(redisUrl, { connectionTimeout: CONNECTED_MS });
    const provider = new RedisMessageProvider({ uri: redisUrl });
    // Clients of node-redis reconnect only if their errors have a listener.
    const { pub, sub } = provider as unknown as Record<"pub" | "sub", EventEmitter>;
    for (const client of [pub, sub]) client.on("error", () => undefined);
    const cache = new Cacheable({ secondary, ttl: "5m", sync: { qified: provider } });
    cache.on("error", () => undefined);
    return Promise.resolve({
      read: (id) => cache.getOrSet(`item:${id}`, () => db.find(id)),
      async write(id, value) {
        await db.update(id, value);
        await cache.delete(`item:${id}`);
      },
      close: () => cache.disconnect(),
    });
  },
};
