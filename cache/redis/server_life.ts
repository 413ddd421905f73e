import type { Redis } from "ioredis";
import type { ServerInfo } from "../operations/server_info.ts";

/**
 * Identifies the current life of a server: differs after a restart or failover.
 *
 * @throws {Error} It is a replica, or reports neither an identity nor a start time.
 */
export async function lifeOf(primary: Redis): Promise<string> {
  const [server, replication] = await Promise.all([
    primary.info("server"),
    primary.info("replication"),
  ]);
  const runId = /^run_id:(\w+)/m.exec(server)?.[1] ?? startOf(server);
  if (!isPrimary(replication)) throw new Error("Cannot trust Redis: it is a replica");
  // A primary that was a replica for a while has the data of another server, and a new `master_replid`.
  const history = /^master_replid:(\w+)/m.exec(replication)?.[1] ?? "";
  return `${runId}/${history}`;
}

/** True if a server is a replica, which may lag behind what its primary has acknowledged. */
export async function isReplica(server: Redis): Promise<boolean> {
  return !isPrimary(await server.info("replication"));
}

function isPrimary(replication: string): boolean {
  return /^role:master/m.test(replication);
}

/** Identifies the life of a server without a `run_id` (Dragonfly) by the second of its start. */
function startOf(server: string): string {
  const field = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, "m").exec(server)?.[1]);
  const startedAt = Math.floor(field("server_time_usec") / 1e6) - field("uptime_in_seconds");
  if (Number.isFinite(startedAt)) return `started-${startedAt}`;
  throw new Error("Cannot identify the server's process: INFO has neither run_id nor a start time");
}

/** Reads a server's description of itself. */
export async function infoOf(primary: Redis): Promise<ServerInfo> {
  const [info, keyspace, totalKeys] = await Promise.all([
    primary.info("stats"),
    primary.info("keyspace"),
    primary.dbsize(),
  ]);
  const { host = "", port = 0 } = primary.options;
  return { name: `${host}:${port}`, info, keyspace, totalKeys };
}
