import { Redis } from "ioredis";
import type { RaceAdapter } from "../adapter.ts";

const TTL_S = 300;

/** The recipe of the tutorials: GET, else query and SETEX; DEL after an update. */
export const adapter: RaceAdapter = {
  name: "the recipe",
  docs: "https://learn.microsoft.com/en-us/azure/architecture/patterns/cache-aside",
  note: "GET, else query and SETEX; DEL after an UPDATE",
  async open({ redisUrl, db }) {
    const redis = new Redis(redisUrl, { lazyConnect: true });
    redis.on("error", () => undefined);
    await redis.connect();
    return {
      async read(id) {
        const cached = await redis.get(`item:${id}`);
        if (cached !== null) return cached;
        const value = await db.find(id);
        if (value !== undefined) await redis.setex(`item:${id}`, TTL_S, value);
        return value;
      },
      async write(id, value) {
        await db.update(id, value);
        await redis.del(`item:${id}`);
      },
      close: async () => void await redis.quit(),
    };
  },
};
