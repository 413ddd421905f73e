/**
 * Faults in which a Cluster, Sentinels or a ring lose a server, or move slots.
 *
 * @module
 */
import { ClusterBus } from "../../tools/servers/cluster_bus.ts";
import { type RedisCluster, startRedisCluster } from "../../tools/servers/redis_cluster.ts";
import { type RedisRing, startRedisRing } from "../../tools/servers/redis_ring.ts";
import { type RedisSentinel, startRedisSentinel } from "../../tools/servers/redis_sentinel.ts";
import { type Fault, faultsOf } from "./fault.ts";
import { startWorld, type World } from "./world.ts";

/** A key that the load reads, and users whose slots are moved. */
const KEY = "la:1:{users:1}";
const MOVED_USERS = 10;

/** The rows. */
export const TOPOLOGY_FAULTS: readonly Fault[] = [
  ...faultsOf(startClusterWorld, [
    {
      name: "Cluster: a primary killed, its replica takes over",
      endsByItself: true,
      prepare: ({ backend }) => Promise.resolve(() => restart(backend)),
      start: async ({ backend }) => {
        const slot = await backend.slotOf(KEY);
        const primary = await backend.ownerOfSlot(slot);
        await primary.kill();
        return async () => void await backend.successorOf(primary, slot);
      },
    },
    {
      name: `Cluster: ${MOVED_USERS} slots migrated`,
      endsByItself: true,
      start: async ({ backend }) => {
        for (let id = 1; id <= MOVED_USERS; id++) {
          const slot = await backend.slotOf(`la:1:{users:${id}}`);
          const owner = await backend.ownerOfSlot(slot);
          const other = (await backend.primaries()).find((server) => server !== owner);
          if (other !== undefined) await backend.migrateSlot(slot, other);
        }
        return () => undefined;
      },
    },
    {
      name: "Cluster: two of three primaries gone",
      redisGone: true,
      start: async ({ backend }) => {
        const [first, second] = await backend.primaries();
        await Promise.all([first?.kill(), second?.kill()]);
        return () => restart(backend);
      },
    },
  ]),
  ...faultsOf(startBusWorld, [
    {
      name: "Cluster: a primary cut off from the others, not from the service",
      start: async ({ backend }) => {
        const slot = await backend.slotOf(KEY);
        const primary = await backend.ownerOfSlot(slot);
        await backend.cutOff(primary);
        await backend.successorOf(primary, slot);
        return () => backend.heal();
      },
    },
  ]),
  ...faultsOf(startSentinelWorld, [
    {
      name: "Sentinel: the primary killed, a replica takes over",
      endsByItself: true,
      prepare: ({ backend }) => Promise.resolve(() => restart(backend)),
      start: async ({ backend }) => {
        const primary = await backend.primary();
        await primary.kill();
        return async () => void await backend.primaryAfter(primary);
      },
    },
    {
      name: "Sentinel: a failover on request",
      endsByItself: true,
      start: async ({ backend }) => {
        await backend.failover();
        return () => undefined;
      },
    },
  ]),
  ...faultsOf(startRingWorld, [
    {
      name: "ring: one server of three dead",
      start: async ({ backend }) => {
        const server = await backend.holderOf(KEY);
        await server.kill();
        return () => server.start();
      },
    },
  ]),
];

function startClusterWorld(): Promise<World<RedisCluster>> {
  return startWorld({ backend: () => startRedisCluster() });
}

function startBusWorld(): Promise<World<RedisCluster>> {
  return startWorld({ backend: () => startRedisCluster({ bus: new ClusterBus() }) });
}

function startSentinelWorld(): Promise<World<RedisSentinel>> {
  return startWorld({ backend: startRedisSentinel });
}

function startRingWorld(): Promise<World<RedisRing>> {
  return startWorld({ backend: () => startRedisRing() });
}

/** Starts every killed server, and waits until all know each other again. */
async function restart(backend: RedisCluster | RedisSentinel): Promise<void> {
  const ended = backend.servers.filter(({ running }) => !running);
  await Promise.all(ended.map((server) => server.start()));
  await backend.settled();
}
