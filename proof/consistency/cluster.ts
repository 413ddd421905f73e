/**
 * Three instances of the service on one Postgres and one Redis, each behind its own proxy to Redis.
 *
 * @module
 */
import { join } from "node:path";
import { startPostgres } from "../../tools/servers/postgres_server.ts";
import { startRedis } from "../../tools/servers/redis_server.ts";
import type { PostgresServer } from "../../tools/servers/postgres_server.ts";
import type { RedisServer } from "../../tools/servers/redis_server.ts";
import { createSeededDatabase } from "../../tests/support/seeded_database.ts";
import { type Service, startService } from "../../tools/servers/service.ts";
import { startTcpProxy, type TcpProxy } from "../../tools/servers/tcp_proxy.ts";

/** Time for which the instances of a cluster trust memory without a sign of life. */
export const MEMORY_LEASE_MS = 1_000;

/** One instance, its proxy to Redis, and the number of its current life. */
export interface Instance {
  readonly service: Service;
  readonly proxy: TcpProxy;
  life: number;
}

/** Everything that a run has started. */
export interface Cluster extends AsyncDisposable {
  readonly redis: RedisServer;
  readonly redisDirectory: string;
  readonly postgres: PostgresServer;
  readonly databaseUrl: string;
  readonly instances: readonly Instance[];
}

export interface ClusterOptions {
  /** Users 1 to this. */
  readonly keysCount: number;
  /** Configuration of the instances, in addition to or instead of that of a cluster. */
  readonly env?: Readonly<Record<string, string>>;
  /** The source tree of the instances. Default: this one. */
  readonly sourceRoot?: string;
}

export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  await using stack = new AsyncDisposableStack();
  const redis = stack.use(await startRedis({ appendOnly: true }));
  const postgres = stack.use(await startPostgres());
  const database = await createSeededDatabase(options.keysCount, postgres.url);
  const instances: Instance[] = [];
  for (let i = 0; i < 3; i++) {
    const proxy = stack.use(startTcpProxy(redis.port));
    const service = stack.use(
      await startService({
        ...(options.sourceRoot === undefined ? {} : { root: options.sourceRoot }),
        env: {
          DATABASE_URL: database.url,
          REDIS_URL: `redis://127.0.0.1:${proxy.port}`,
          LOG_LEVEL: "warning",
          // All writers count as one client.
          ADMIN_RATE_LIMIT: "0",
          // Short lives, so that entries often expire, are stale or are refreshed in a short run.
          CACHE_TTL_MS: "3000",
          CACHE_LIST_TTL_MS: "1500",
          CACHE_GRACE_MS: "2000",
          CACHE_MEMORY_LEASE_MS: String(MEMORY_LEASE_MS),
          // One cache, although each instance reaches it through its own proxy.
          CHANGES_CACHE_NAME: "cluster",
          ...options.env,
        },
      }),
    );
    instances.push({ service, proxy, life: 0 });
  }
  const [, redisDirectory = ""] = (await redis.cli("CONFIG", "GET", "dir")).split("\n");
  const owned = stack.move();
  return {
    redis,
    redisDirectory: join(redisDirectory, "appendonlydir"),
    postgres,
    databaseUrl: database.url,
    instances,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Names an instance and its current life. */
export function nameOf(cluster: Cluster, index: number): string {
  return `${index}.${cluster.instances[index]?.life ?? 0}`;
}
