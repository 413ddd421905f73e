// @ts-types="../pg.d.ts"
import pg from "pg";
import { Cache } from "@lookaside/cache";
import { postgresChanges, table } from "@lookaside/changes";
import type { RaceAdapter } from "../adapter.ts";

/** The cache with the changes of its table, as the README of `@lookaside/changes` shows. */
export const adapter: RaceAdapter = {
  name: "Lookaside",
  docs: "changes/README.md",
  note: "memory, Redis and the changes of Postgres",
  async open({ redisUrl, db }) {
    const pool = new pg.Pool({ connectionString: db.url });
    pool.on("error", () => undefined);
    const cache = new Cache({
      url: redisUrl,
      // Longer than the default, because other libraries have no limit, and six that share a processor are slow.
      commandTimeoutMs: 3_000,
      memoryLeaseMs: 3_000,
      changes: postgresChanges(pool, { cacheName: "items" }),
    });
    const items = table<{ id: number; value: string }>(cache, "items", { ttlMs: 300_000 });
    await cache.changes.caughtUp();
    return {
      read: async (id) => (await items.row<string>(id, () => db.find(id))).value(),
      async write(id, value) {
        await db.update(id, value);
        await items.invalidate({ id });
      },
      async close() {
        await cache.close();
        await pool.end();
      },
    };
  },
};
