/**
 * The servers that Sentinels or a cluster announce. A service that may connect only to listed addresses needs
 * them in addition to those of its Redis URL.
 *
 * @module
 */
import { type Credentials, parseTopology, type ServerAddress } from "../cache/mod.ts";
import { connectRedis } from "../cache/topologies/open.ts";
import { readCa } from "../server/certificates.ts";
import type { Config } from "../server/config.ts";

/** Time that a server has to accept a connection, and to answer. */
const TIMEOUT_MS = 2_000;

/** Sends one command to the server. */
type Call = (...command: [name: string, ...args: string[]]) => Promise<unknown>;

/**
 * Asks the servers of the Redis URL for others, and answers all that any of them names. Asks none if
 * `REDIS_NODES` is set, or if the URL is complete.
 *
 * @param report Called if none of them answered, and so none is announced.
 */
export async function announcedNodes(
  config: Config,
  report: (line: string) => void,
): Promise<readonly ServerAddress[]> {
  const topology = parseTopology(config.cache.url);
  if (config.redisNodes.length > 0 || !config.cache.enabled) return [];
  if (topology.kind !== "sentinel" && topology.kind !== "cluster") return [];
  const { tls } = topology.credentials;
  const ca = tls ? await readCa(config.cache.caFile) : {};
  const ask = topology.kind === "sentinel"
    ? (call: Call) => askSentinel(topology.master, call)
    : askCluster;
  const { kind, credentials } = topology;
  // The URL's user and password are those of the servers. Sentinels may have the same, or none.
  const logins = kind === "cluster"
    ? [credentials]
    : config.cache.connect === undefined
    ? [{ tls }, credentials]
    : [{ tls, password: config.cache.connect().sentinelPassword }];
  const asked = topology.servers.map(async (seed) => {
    const [first = credentials, other] = logins;
    const asking = withServer(seed, first, { ...ca, ask });
    return other === undefined
      ? await asking
      : await asking.catch(() => withServer(seed, other, { ...ca, ask }));
  });
  const answers = await Promise.allSettled(asked);
  const found = answers.flatMap((answer) => answer.status === "fulfilled" ? [answer.value] : []);
  if (found.length === 0) {
    report(
      "No server of REDIS_URL says which others there are, so the service may connect to those of " +
        "REDIS_URL alone. Start it again once they answer, or list the others in REDIS_NODES.",
    );
  }
  return found.flat();
}

async function askSentinel(master: string, call: Call): Promise<ServerAddress[]> {
  const [primary, ...others] = await Promise.all([
    call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master),
    call("SENTINEL", "REPLICAS", master),
    call("SENTINEL", "SENTINELS", master),
  ]);
  return [...addressIn(primary), ...others.flatMap(listIn).flatMap(addressInFields)];
}

async function askCluster(call: Call): Promise<ServerAddress[]> {
  const slots = await call("CLUSTER", "SLOTS");
  // The reply also contains servers that are down or own no slot. Not every user may ask.
  const nodes = await call("CLUSTER", "NODES").catch(() => "");
  return [
    ...listIn(slots).flatMap(listIn).flatMap(addressIn),
    ...String(nodes).split("\n").flatMap(addressInLine),
  ];
}

async function withServer<T>(
  server: ServerAddress,
  credentials: Credentials,
  { ca, ask }: { readonly ca?: string; readonly ask: (call: Call) => Promise<T> },
): Promise<T> {
  const topology = { kind: "standalone", servers: [server], credentials } as const;
  const connection = await connectRedis(topology, {
    ...(ca === undefined ? {} : { ca }),
    commandTimeoutMs: TIMEOUT_MS,
  });
  try {
    return await ask(async (...command) => await connection?.client.call(...command));
  } finally {
    await connection?.close();
  }
}

function listIn(reply: unknown): unknown[] {
  return Array.isArray(reply) ? reply : [];
}

/** `[host, port, …]`. A server that does not know its own address omits the host. */
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
