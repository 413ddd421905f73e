/**
 * Connects to the servers of a URL. Only this file distinguishes the topologies.
 *
 * @module
 */
import { AddressConnection } from "./address.ts";
import { ClusterConnection } from "./cluster.ts";
import {
  type Access,
  type Connection,
  type ConnectionOptions,
  PATIENCE,
} from "../redis/connection.ts";
import { assertAccess, type CacheOptions, type RedisAccess } from "../options.ts";
import { systemRuntime, within } from "../runtime.ts";
import { SentinelConnection } from "./sentinel.ts";
import { addressText, type Credentials, type Topology } from "./url.ts";

/** An independent part of the shared tier: one server of a ring; otherwise the whole. */
export interface Backend {
  /** The same in every process: `host:port/db` of a server, otherwise the name in the URL. */
  readonly name: string;
  /** True if another server may take over at any time, so that it is caught up with before the first read. */
  readonly failsOver: boolean;
  /** True if that happens without notice, so that the connection must be checked again and again. */
  readonly leased: boolean;
  /** Connects. */
  connect(options: ConnectionOptions): Connection;
}

/**
 * Lists the backends of a cache: none for `memory:`, several for a ring, otherwise one.
 *
 * @param options `ca`: certificates to trust with TLS, as PEM, instead of the system's; `connect`: changing
 * credentials.
 */
export function backendsOf(
  topology: Topology,
  options: Pick<CacheOptions, "ca" | "connect"> = {},
): readonly Backend[] {
  if (topology.kind === "memory") return [];
  const { kind, servers, credentials } = topology;
  const access = ({ onError }: ConnectionOptions) => accessOf(credentials, options, onError);
  const database = `/${credentials.db ?? 0}`;
  const seeds = servers.map(addressText).toSorted().join(",");
  switch (kind) {
    case "sentinel":
      return [{
        name: `${topology.master}@${seeds}${database}`,
        failsOver: true,
        leased: true,
        connect: (options) => new SentinelConnection(topology, access(options), options),
      }];
    case "cluster":
      return [{
        name: seeds,
        failsOver: true,
        leased: false,
        connect: (options) => new ClusterConnection(servers, access(options), options),
      }];
    default:
      return servers.map((server) => ({
        name: addressText(server) + database,
        failsOver: false,
        leased: false,
        connect: (options) => {
          const current = access(options);
          return new AddressConnection(() => ({ ...current(), ...server }), options);
        },
      }));
  }
}

/** Options of {@linkcode connectRedis}. */
export interface ConnectRedisOptions extends Pick<CacheOptions, "ca" | "connect"> {
  /** Longest duration of each command. */
  readonly commandTimeoutMs: number;
}

/**
 * Connects to the Redis of a URL: for a ring to its first server, for `memory:` to none. Resolves once it is
 * connected, an attempt has failed, or `commandTimeoutMs` have passed; it keeps trying.
 */
export async function connectRedis(
  topology: Topology,
  { commandTimeoutMs, ...trusted }: ConnectRedisOptions,
): Promise<Connection | undefined> {
  const { promise: attempted, resolve } = Promise.withResolvers<void>();
  const { clock } = systemRuntime;
  const connection = backendsOf(topology, trusted)[0]?.connect({
    commandTimeoutMs,
    boundsCommands: true,
    clock,
    onError: () => resolve(),
    onConnection: () => resolve(),
    // Matters only to a cache, which must know whether its reads are current.
    onChange: () => undefined,
    onRefused: () => undefined,
    onConfirmed: () => undefined,
  });
  if (connection !== undefined) await within(clock, commandTimeoutMs, attempted);
  return connection;
}

function accessOf(
  { tls, ...login }: Credentials,
  { ca, connect }: Pick<CacheOptions, "ca" | "connect">,
  onError: (error: unknown) => void,
): () => Access {
  let last: RedisAccess | undefined;
  const current = (): RedisAccess => {
    try {
      const access = connect === undefined ? {} : connect();
      assertAccess(access);
      return last = access;
    } catch (error) {
      if (last === undefined) throw error;
      onError(error); // the client would let it end the process; the server decides whether the last one still serves
      return last;
    }
  };
  return () => {
    const given = current();
    const { sentinelUsername, sentinelPassword } = given;
    const username = given.username ?? login.username;
    const password = given.password ?? login.password;
    return {
      ...PATIENCE,
      ...login,
      ...(username !== undefined && { username }),
      ...(password !== undefined && { password }),
      ofSentinels: {
        ...(sentinelUsername && { username: sentinelUsername }),
        ...(sentinelPassword && { password: sentinelPassword }),
      },
      ...(tls && { tls: { ...(ca !== undefined && { ca }), ...given.tls } }),
    };
  };
}
