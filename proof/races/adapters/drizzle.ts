import type { Redis as UpstashRedis } from "@upstash/redis";
import { eq } from "drizzle-orm";
import { UpstashCache } from "drizzle-orm/cache/upstash";
import { drizzle } from "drizzle-orm/node-postgres";
import { integer, pgTable, text } from "drizzle-orm/pg-core";
import { Redis } from "ioredis";
import type { RaceAdapter } from "../adapter.ts";

const TTL_S = 300;

const items = pgTable("items", { id: integer().primaryKey(), value: text().notNull() });

type NodePgClient = Parameters<typeof drizzle>[0];

/** Drizzle's cache for Upstash, whose client is replaced by one for any Redis. */
export const adapter: RaceAdapter = {
  name: "Drizzle's cache",
  version: "0.45.4",
  docs: "https://orm.drizzle.team/docs/cache",
  note: "its class UpstashCache, over ioredis",
  async open({ redisUrl, db }) {
    const redis = new Redis(redisUrl, { lazyConnect: true });
    redis.on("error", () => undefined);
    await redis.connect();
    const cache = new UpstashCache(upstashOver(redis) as UpstashRedis, { ex: TTL_S }, true);
    const orm = drizzle(db.pool as unknown as NodePgClient, { cache });
    return {
      async read(id) {
        const [found] = await orm.select().from(items).where(eq(items.id, id));
        return found?.value;
      },
      write: async (id, value) =>
        void await orm.update(items).set({ value }).where(eq(items.id, id)),
      close: async () => void await redis.quit(),
    };
  },
};

/** The part of Upstash's client that the cache uses. */
function upstashOver(redis: Redis): unknown {
  const parsed = (text: string | null) => text === null ? null : JSON.parse(text);
  return {
    hget: async (key: string, field: string) => parsed(await redis.hget(key, field)),
    createScript: (script: string) => ({
      exec: (keys: readonly string[], args: readonly string[]) =>
        redis.eval(script, keys.length, ...keys, ...args),
    }),
    pipeline() {
      const commands = redis.multi();
      return {
        hset: (key: string, fields: Readonly<Record<string, unknown>>) =>
          Object.entries(fields).map(([name, value]) =>
            commands.hset(key, name, JSON.stringify(value))
          ),
        // HEXPIRE needs Redis 7.4. No entry lives as long as a race takes.
        hexpire: (key: string, _field: string, seconds: number) => commands.expire(key, seconds),
        sadd: (key: string, member: string) => commands.sadd(key, member),
        exec: () => commands.exec(),
      };
    },
  };
}
