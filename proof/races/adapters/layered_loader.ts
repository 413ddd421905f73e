import { Redis } from "ioredis";
import { createNotificationPair, Loader, RedisCache } from "layered-loader";
import type { RaceAdapter } from "../adapter.ts";

const TTL_MS = 300_000;

/** Memory, RedisCache behind it, and its notifications over Redis. */
export const adapter: RaceAdapter = {
  name: "layered-loader",
  version: "16.1.0",
  docs: "https://github.com/kibertoad/layered-loader#update-notifications",
  note: "memory, RedisCache and Redis notifications",
  async open({ redisUrl, db }) {
    const connections = [new Redis(redisUrl), new Redis(redisUrl), new Redis(redisUrl)] as const;
    for (const each of connections) each.on("error", () => undefined);
    const [cache, publisherRedis, consumerRedis] = connections;
    const { publisher, consumer } = createNotificationPair<string>({
      channel: "items",
      publisherRedis,
      consumerRedis,
    });
    const loader = new Loader<string>({
      inMemoryCache: { ttlInMsecs: TTL_MS, maxItems: 1_000 },
      asyncCache: new RedisCache<string>(cache, { prefix: "item", ttlInMsecs: TTL_MS }),
      notificationConsumer: consumer,
      notificationPublisher: publisher,
      dataSourceGetOneFn: (id) => db.find(Number(id)),
    });
    await loader.init();
    return {
      read: async (id) => await loader.get(String(id)) ?? undefined,
      async write(id, value) {
        await db.update(id, value);
        await loader.invalidateCacheFor(String(id));
      },
      close: () => Promise.resolve(connections.forEach((each) => each.disconnect())),
    };
  },
};
