/**
 * The arrangements of servers that the same tests run on.
 *
 * @module
 */
import { assert } from "@std/assert";
import { startRedisCluster } from "../../../tools/servers/redis_cluster.ts";
import { startRedisRing } from "../../../tools/servers/redis_ring.ts";
import { startRedisSentinel } from "../../../tools/servers/redis_sentinel.ts";
import { type RedisServer, startRedis } from "../../../tools/servers/redis_server.ts";

/** Servers that instances of the cache share. */
export interface Stage {
  /** What the instances are told, for the user they are to have. */
  readonly serviceUrl: string;
  /** The servers that take writes now. */
  primaries(): Promise<readonly RedisServer[]>;
  /** Ends them. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** Starts one, and waits until it is up. */
export type StartStage = () => Promise<Stage>;

/** One server. */
export async function standalone(): Promise<Stage> {
  const server = await startRedis();
  return stageOf(server, () => Promise.resolve([server]));
}

/** Every arrangement of several servers, by what it is called in reports. */
export const SEVERAL_SERVERS: Readonly<Record<string, StartStage>> = {
  "Sentinel": async () => {
    const topology = await startRedisSentinel();
    return stageOf(topology, async () => [await topology.primary()]);
  },
  "Redis Cluster": async () => {
    const topology = await startRedisCluster();
    return stageOf(topology, () => topology.primaries());
  },
  "a ring": async () => {
    const topology = await startRedisRing();
    return stageOf(topology, () => Promise.resolve(topology.servers));
  },
};

/** The server among those that take writes that holds a Redis key. */
export async function holderOf(stage: Stage, redisKey: string): Promise<RedisServer> {
  for (const server of await stage.primaries()) {
    if (await server.cli("EXISTS", redisKey) === "1") return server;
  }
  throw new Error(`Cannot name the holder of ${redisKey}: there is none`);
}

/** Whether a Redis key is there. */
export async function exists(stage: Stage, redisKey: string): Promise<boolean> {
  const servers = await stage.primaries();
  assert(servers.length > 0);
  const answers = await Promise.all(servers.map((server) => server.cli("EXISTS", redisKey)));
  return answers.includes("1");
}

function stageOf(
  servers: Pick<Stage, "serviceUrl" | typeof Symbol.asyncDispose>,
  primaries: Stage["primaries"],
): Stage {
  return {
    serviceUrl: servers.serviceUrl,
    primaries,
    [Symbol.asyncDispose]: () => servers[Symbol.asyncDispose](),
  };
}
