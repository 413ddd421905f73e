import { Redis } from "ioredis";
import postgres from "postgres";
import { Cache } from "../../cache/mod.ts";
import { postgresChanges, table } from "../../changes/mod.ts";

/** Time for which both keep a row: longer than a viewer watches. */
const TTL_S = 300;
const TIMEOUT_MS = 250;
/** Interval of polling for changes if Postgres does not notify. */
const POLL_MS = 100;

/** Queries the database for the version of a row. */
export type Load = (id: number) => Promise<number>;

/** A cache in front of the table, as an application uses it. */
export interface Contender extends AsyncDisposable {
  /** Answers a row, from the cache or the database. */
  read(id: number): Promise<number>;
  /** Called when the application has written a row, before it answers its user. */
  wrote(id: number): Promise<void>;
}

/**
 * The recipe of the tutorials, with an addition so that it survives an outage of Redis: errors lead to the database.
 */
export function recipe(redisUrl: string, load: Load): Contender {
  const redis = new Redis(redisUrl, { commandTimeout: TIMEOUT_MS, maxRetriesPerRequest: 1 });
  redis.on("error", () => undefined);
  const orNull = <T>(asked: Promise<T>) => asked.catch(() => null);
  return {
    async read(id) {
      const cached = await orNull(redis.get(`item:${id}`));
      if (cached !== null) return Number(cached);
      const version = await load(id);
      await orNull(redis.setex(`item:${id}`, TTL_S, version));
      return version;
    },
    wrote: async (id) => void await orNull(redis.del(`item:${id}`)),
    [Symbol.asyncDispose]: () => Promise.resolve(redis.disconnect()),
  };
}

/** Lookaside, with the changes of the table. */
export async function lookaside(
  urls: { readonly redis: string; readonly database: string; readonly listens: boolean },
  load: Load,
): Promise<Contender> {
  await using stack = new AsyncDisposableStack();
  const sql = postgres(urls.database, { max: 2, onnotice: () => undefined });
  stack.defer(() => sql.end({ timeout: 1 }));
  const listen = urls.listens ? {} : { listen: false as const, pollMs: POLL_MS };
  const cache = stack.use(
    new Cache({
      url: urls.redis,
      prefix: "break-it", // the service may use the same Redis
      changes: postgresChanges(sql, { cacheName: "break-it", ...listen }),
    }),
  );
  const items = table<{ id: number; version: number }>(cache, "items", { ttlMs: TTL_S * 1_000 });
  await cache.changes.caughtUp();
  const opened = stack.move();
  return {
    read: async (id) => (await items.row<number>(id, () => load(id))).value() ?? 0,
    wrote: async (id) => void await items.invalidate({ id }),
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}
