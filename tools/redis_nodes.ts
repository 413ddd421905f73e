/**
 * The servers that Sentinels or a cluster announce: what a service that may connect to listed addresses
 * alone must be allowed to reach, beside those that its Redis URL names.
 *
 * @module
 */
import { Redis } from "ioredis";
import { disconnect, DISCONNECT_MS } from "../cache/redis/feed.ts";
import { systemRuntime } from "../cache/runtime.ts";
import { parseTopology, type ServerAddress, type Topology } from "../cache/topologies/url.ts";
import { readCa } from "../server/certificates.ts";
import type { Config } from "../server/config.ts";

/** How long a server may take to let us in, and to answer. */
const TIMEOUT_MS = 2_000;

/** Where one server is, and who we are to it. */
interface Connection extends ServerAddress {
  readonly username?: string;
  readonly password?: string;
  readonly tls?: { readonly ca?: string };
}

type Sentinels = Extract<Topology, { readonly kind: "sentinel" }>;
type Several = Exclude<Topology, { readonly kind: "memory" }>;

/**
 * Asks the servers of the Redis URL what others there are, and answers with all that any of them names.
 * Nobody is asked where `REDIS_NODES` says it, or where the URL says all there is to say.
 *
 * @param report Told that none of them answered: then nothing is announced.
 */
export async function announcedNodes(
  config: Config,
  report: (line: string) => void,
): Promise<readonly ServerAddress[]> {
  const topology = parseTopology(config.cache.url);
  const announces = topology.kind === "sentinel" || topology.kind === "cluster";
  if (!announces || config.redisNodes.length > 0 || !config.cache.enabled) return [];
  const ask = topology.kind === "sentinel" ? askSentinel : askCluster;
  const tls = topology.credentials.tls ? { tls: await readCa(config.cache.caFile) } : {};
  const answers = await Promise.allSettled(
    topology.servers.map((seed) => ask(topology, { ...seed, ...tls })),
  );
  const found = answers.flatMap((answer) => answer.status === "fulfilled" ? [answer.value] : []);
  if (found.length === 0) {
    report(
      "No server of REDIS_URL says which others there are, so the service may connect to those of " +
        "REDIS_URL alone. Start it again once they answer, or list the others in REDIS_NODES.",
    );
  }
  return found.flat();
}

async function askSentinel(topology: Several, seed: Connection): Promise<ServerAddress[]> {
  const { master } = topology as Sentinels;
  // The user and the password of the URL are those of the servers, not of the Sentinels.
  return await withServer(seed, async (sentinel) => {
    const [primary, ...others] = await Promise.all([
      sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master),
      sentinel.call("SENTINEL", "REPLICAS", master),
      sentinel.call("SENTINEL", "SENTINELS", master),
    ]);
    return [...addressIn(primary), ...others.flatMap(listIn).flatMap(addressInFields)];
  });
}

async function askCluster(topology: Several, seed: Connection): Promise<ServerAddress[]> {
  const { username, password } = topology.credentials;
  const connection = {
    ...seed,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
  };
  return await withServer(connection, async (server) => {
    const slots = await server.call("CLUSTER", "SLOTS");
    // It names what is down or owns no slot, too. Not every user may ask.
    const nodes = await server.call("CLUSTER", "NODES").catch(() => "");
    return [
      ...listIn(slots).flatMap(listIn).flatMap(addressIn),
      ...String(nodes).split("\n").flatMap(addressInLine),
    ];
  });
}

async function withServer<T>(
  connection: Connection,
  ask: (server: Redis) => Promise<T>,
): Promise<T> {
  const server = new Redis({
    ...connection,
    protocol: 2,
    lazyConnect: true,
    connectTimeout: TIMEOUT_MS,
    disconnectTimeout: DISCONNECT_MS,
    commandTimeout: TIMEOUT_MS,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
  });
  server.on("error", () => {
    // The rejection of what was asked says the same.
  });
  try {
    await server.connect();
    return await ask(server);
  } finally {
    await disconnect(server, systemRuntime.clock);
  }
}

function listIn(reply: unknown): unknown[] {
  return Array.isArray(reply) ? reply : [];
}

/** `[host, port, …]`. A server that does not know its own address leaves the host out. */
function addressIn(reply: unknown): ServerAddress[] {
  const [host, port] = listIn(reply);
  return address(host, port);
}

/** `["name", …, "ip", host, "port", port, …]`. */
function addressInFields(reply: unknown): ServerAddress[] {
  const fields = listIn(reply);
  const field = (name: string) => fields[fields.indexOf(name) + 1];
  return address(field("ip"), field("port"));
}

/** `id host:port@bus,name flags …`. */
function addressInLine(line: string): ServerAddress[] {
  const [, host, port, name] = /^\S+ (\S*):(\d+)@\d+(?:,([^,\s]*))?/.exec(line) ?? [];
  return [...address(host, port), ...address(name, port)];
}

function address(host: unknown, port: unknown): ServerAddress[] {
  const number = Number(port);
  if (typeof host !== "string" || !/^[A-Za-z0-9:][\w.:-]*$/.test(host)) return [];
  return Number.isInteger(number) && number > 0 && number < 65_536 ? [{ host, port: number }] : [];
}
