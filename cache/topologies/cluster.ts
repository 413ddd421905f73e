import { Cluster, type Redis } from "ioredis";
import { ClusterFeed } from "./cluster_feed.ts";
import { slotRangesOf } from "./cluster_view.ts";
import type { ConnectOptions, FeedOptions, FeedWiring, Following } from "../redis/feed.ts";
import {
  addressText,
  type Client,
  type ClientEvents,
  commandOptions,
  retryStrategy,
  type Servers,
} from "./servers.ts";
import type { ServerAddress } from "./url.ts";

const SLOTS = 16_384;
/** How often the client asks who owns which slots, besides whenever a server sends it elsewhere. */
const SLOTS_REFRESH_MS = 1_000;
/** A slot under migration refuses keys that are on both sides for a moment. */
const TRY_AGAIN_MS = 20;

/**
 * A Redis Cluster.
 *
 * An entry and its lease share a slot, so the scripts work; a tag has a slot of its own. While any
 * primary is away nothing is believed: what may be read depends on tags that may be there.
 */
export class ClusterServers implements Servers {
  readonly anySlot = false;
  readonly #seeds: readonly ServerAddress[];
  readonly #base: ConnectOptions;

  constructor(seeds: readonly ServerAddress[], base: ConnectOptions) {
    this.#seeds = seeds;
    this.#base = base;
  }

  open(commandTimeoutMs: number, { onError, onConnection, onChange }: ClientEvents): Cluster {
    const client = new Cluster([...this.#seeds], {
      redisOptions: { ...this.#base, ...commandOptions(commandTimeoutMs) },
      enableOfflineQueue: false,
      // In a pipeline a key that moves fails its neighbours, and does not teach the client where it is.
      enableAutoPipelining: false,
      clusterRetryStrategy: retryStrategy,
      slotsRefreshInterval: SLOTS_REFRESH_MS,
      slotsRefreshTimeout: SLOTS_REFRESH_MS,
      // The reader falls back to the database, which is quicker than to wait for a new primary.
      retryDelayOnFailover: 0,
      retryDelayOnClusterDown: 0,
      retryDelayOnTryAgain: TRY_AGAIN_MS,
      dnsLookup: (address, callback) => callback(null, address),
    });
    let known = "";
    const changed = (): void => {
      if (client.status === "ready") onChange(); // else it tells by itself
    };
    client.on("error", onError);
    client.on("node error", onError);
    client.on("ready", () => onConnection(true));
    client.on("close", () => onConnection(false));
    client.on("refresh", () => {
      const now = primaryAddresses(client).toSorted().join(" ");
      if (known !== "" && known !== now) changed();
      known = now;
    });
    client.on("+node", (node: Redis) => {
      node.on("close", () => {
        if (!node.options.readOnly) changed();
      });
      // Not with the first command, which would be refused for coming too early.
      if (!node.options.readOnly) node.connect().catch(() => undefined);
    });
    return client;
  }

  async primaries(client: Client): Promise<readonly Redis[]> {
    if (!(client instanceof Cluster)) return [];
    const nodes = new Map(client.nodes().map((node) => [addressOfNode(node), node]));
    const [first] = nodes.values();
    if (first === undefined) throw new Error("Cannot ask the cluster: no server is known");
    const primaries = new Set<Redis>();
    let slots = 0;
    for (const [from, to, primary] of slotRangesOf(await first.cluster("SLOTS"))) {
      const node = nodes.get(primary);
      if (node === undefined) {
        throw new Error(`Cannot ask the cluster: ${primary} is not known yet`);
      }
      primaries.add(node);
      slots += to - from + 1;
    }
    if (slots < SLOTS) {
      throw new Error(`Cannot ask the cluster: ${slots} of ${SLOTS} slots are served`);
    }
    return [...primaries];
  }

  follow(client: Client, options: FeedOptions, wiring: FeedWiring): Following {
    if (!(client instanceof Cluster)) throw new TypeError("Cannot follow: not a cluster's client");
    return new ClusterFeed(client, this.#base, { options, ...wiring });
  }
}

/** Where the servers are that a cluster's client sends commands to. */
export function primaryAddresses(client: Cluster): string[] {
  return client.nodes("master").map(addressOfNode);
}

/** Where one server of a cluster is. */
export function addressOfNode({ options: { host = "", port = 0 } }: Redis): string {
  return addressText({ host, port });
}
