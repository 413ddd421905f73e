import { ClusterServers } from "./cluster.ts";
import type { CacheOptions } from "../options.ts";
import { SentinelServers } from "./sentinel.ts";
import { addressText, baseOptions, OneServer, type Servers } from "./servers.ts";
import { parseTopology, type ServerAddress } from "./url.ts";

/** The place of a part of the keys: on `servers`, or without them in memory. */
export interface Place {
  /** Its name, the same in every process. */
  readonly name: string;
  readonly servers?: Servers;
  /** Whether a server may take another's place. */
  readonly failsOver: boolean;
}

/**
 * The places of a cache: one, but for a ring.
 *
 * @throws {TypeError} The URL cannot be used.
 */
export function placesOf(
  { url = "memory:", ca, enabled }: CacheOptions,
): readonly [Place, ...Place[]] {
  const alone: Place = { name: "", failsOver: false };
  if (enabled === false) return [alone];
  const topology = parseTopology(url);
  if (topology.kind === "memory") return [alone];
  const { kind, servers, credentials } = topology;
  const base = baseOptions(credentials, ca);
  const database = `/${credentials.db ?? 0}`;
  const seeds = servers.map(addressText).toSorted().join(",");
  if (kind === "sentinel") {
    const name = `${topology.master}@${seeds}${database}`;
    return [{ name, servers: new SentinelServers(topology, base), failsOver: true }];
  }
  if (kind === "cluster") {
    const cluster = new ClusterServers(servers, base);
    return [{ name: seeds, servers: cluster, failsOver: true }];
  }
  const place = (server: ServerAddress): Place => ({
    name: addressText(server) + database,
    servers: new OneServer({ ...base, ...server }),
    failsOver: false,
  });
  const [first, ...others] = servers;
  return first === undefined ? [alone] : [place(first), ...others.map(place)];
}
