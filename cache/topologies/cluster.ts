import { Cluster, type Redis } from "ioredis";
import { ClusterFeed } from "./cluster_feed.ts";
import { addressOf, idOf, newestOwners, primariesOf, slotRangesOf } from "./cluster_view.ts";
import {
  type Access,
  askForCredentials,
  commandOptions,
  type Connection,
  type ConnectionOptions,
  disconnect,
  DISCONNECT_MS,
  type FeedOptions,
  reconnectDelays,
} from "../redis/connection.ts";
import { endSilence } from "../redis/silence.ts";
import { within } from "../runtime.ts";
import { isReply } from "../redis/reply_errors.ts";
import type { ServerAddress } from "./url.ts";

const SLOTS = 16_384;
/** Interval at which the client asks who owns which slots; it also asks whenever a server redirects it. */
const SLOTS_REFRESH_MS = 1_000;
/** The client skips servers that announce no address, as a server does that has met no other. */
const NO_ADDRESS =
  "the cluster serves no slots, or announces no address of its servers: set cluster-announce-ip";
/** While a slot is moved, it refuses commands for keys that are not all on one side. */
const TRY_AGAIN_MS = 20;
/** Limit of redirections and refusals of a command. A slot may be left in this state for hours. */
const REDIRECTIONS_MAX = 6;

/**
 * A Redis Cluster.
 *
 * An entry and its lease share a slot, so the scripts work; a tag has its own slot. While any primary is
 * unreachable, nothing is trusted: every entry may depend on tags that are there.
 */
export class ClusterConnection implements Connection {
  readonly anySlot = false;
  readonly client: Cluster;
  readonly #access: () => Access;
  readonly #options: ConnectionOptions;

  /** @param seeds The servers that are asked first for the others. */
  constructor(seeds: readonly ServerAddress[], access: () => Access, options: ConnectionOptions) {
    this.#access = access;
    this.#options = options;
    this.client = new Cluster([...seeds], {
      redisOptions: { ...access(), ...commandOptions(options) },
      enableOfflineQueue: false,
      // It would query a server that the client has only just heard of and is not connected to.
      enableReadyCheck: false,
      // In a pipeline, one moved key fails the other commands, and the client does not learn its new place.
      enableAutoPipelining: false,
      clusterRetryStrategy: reconnectDelays(options.clock),
      slotsRefreshInterval: SLOTS_REFRESH_MS,
      slotsRefreshTimeout: SLOTS_REFRESH_MS,
      // The reader falls back to the database, which is faster than waiting for a new primary.
      retryDelayOnFailover: 0,
      retryDelayOnClusterDown: 0,
      retryDelayOnTryAgain: TRY_AGAIN_MS,
      maxRedirections: REDIRECTIONS_MAX,
      // Connect by name, since permissions and certificates list names.
      dnsLookup: (address, callback) => callback(null, address),
    });
    this.client.on("+node", (node: Redis) => {
      askForCredentials(node, access);
      endSilence(node, options);
    });
    this.#listen();
  }

  async primaries(): Promise<readonly Redis[]> {
    const nodes = new Map(this.client.nodes().map((node) => [addressOf(node), node]));
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

  /**
   * Asks every server for its view, also replicas: a replica that has taken over knows the newer epoch, and the
   * previous primary, if it was restarted, does not.
   */
  async proved(): Promise<readonly Redis[]> {
    const primaries = await this.primaries();
    const asked = await Promise.allSettled(
      this.client.nodes().map(async (node) => ({
        node,
        text: String(await node.cluster("NODES")),
      })),
    );
    const views = asked.flatMap((each) => each.status === "fulfilled" ? [each.value] : []);
    const refused = asked.some((each) => each.status === "rejected" && isReply(each.reason));
    // A user that may not ask must rely on CLUSTER SLOTS.
    if (views.length === 0 && refused) return primaries;
    const owners = newestOwners(views.map(({ text }) => text));
    const ids = views.filter(({ node }) => primaries.includes(node)).map(({ text }) => idOf(text));
    if (ids.length === owners.size && ids.every((id) => owners.has(id))) return primaries;
    throw new Error("Cannot trust the cluster: a newer configuration names other primaries");
  }

  follow(options: FeedOptions): ClusterFeed {
    const { clock, onRefused } = this.#options;
    return new ClusterFeed(this.client, this.#access, { ...options, clock, onRefused });
  }

  async close(): Promise<void> {
    const { client } = this;
    const { clock } = this.#options;
    await disconnect(client, clock, client.nodes());
    // A running look-up of slot owners has its own connection and timer, and sets the timer of the next one.
    const looked = new Promise<void>((resolve) =>
      client.refreshSlotsCache(() => {
        client["clearNodesRefreshInterval"]();
        resolve();
      })
    );
    await within(clock, DISCONNECT_MS, looked);
  }

  #listen(): void {
    const { client } = this;
    const { onError, onConnection, onChange } = this.#options;
    let known = "";
    let connected = false;
    const look = (): void => {
      if (connected || client.status !== "ready") return;
      const primaries = [...primariesOf(client).values()];
      connected = primaries.length > 0 && primaries.every(({ status }) => status === "ready");
      if (connected) onConnection(true);
    };
    const changed = (): void => {
      if (connected && client.status === "ready") onChange(); // otherwise the client reports it
    };
    client.on("error", onError);
    client.on("node error", onError);
    client.on("ready", look);
    client.on("close", () => {
      if (connected) onConnection(connected = false);
    });
    client.on("refresh", () => {
      if (client.nodes().length === 0) onError(new Error(NO_ADDRESS));
      const now = [...primariesOf(client).keys()].sort().join(" ");
      if (known !== "" && known !== now) changed();
      known = now;
      look();
    });
    client.on("+node", (node: Redis) => {
      node.on("ready", look);
      node.on("close", () => {
        if (!node.options.readOnly) changed();
      });
      // Connect before the first command, which would be refused while connecting.
      if (!node.options.readOnly) node.connect().catch(() => undefined);
    });
  }
}
