import { BentoCache, bentostore } from "bentocache";
import { memoryDriver } from "bentocache/drivers/memory";
import { redisBusDriver, redisDriver } from "bentocache/drivers/redis";
import type { RaceAdapter } from "../adapter.ts";

/** Two levels and a bus, as its documentation shows for several instances. */
export const adapter: RaceAdapter = {
  name: "bentocache",
  version: "1.6.1",
  docs: "https://bentocache.dev/docs/multi-tier",
  note: "memory, Redis and the Redis bus",
  open({ redis: connection, db }) {
    const bento = new BentoCache({
      default: "items",
      ttl: "5m",
      onFactoryError: () => undefined,
      stores: {
        items: bentostore()
          .useL1Layer(memoryDriver({ maxItems: 1_000 }))
          .useL2Layer(redisDriver({ connection }))
          .useBus(redisBusDriver({ connection })),
      },
    });
    return Promise.resolve({
      read: (id) => bento.getOrSet({ key: `item:${id}`, factory: () => db.find(id) }),
      async write(id, value) {
        await db.update(id, value);
        await bento.delete({ key: `item:${id}` });
      },
      close: () => bento.disconnectAll(),
    });
  },
};
