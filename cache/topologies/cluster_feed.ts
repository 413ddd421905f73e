import type { Cluster, Redis } from "ioredis";
import { ClusterView } from "./cluster_view.ts";
import {
  type Access,
  DISCONNECT_MS,
  type FeedOptions,
  type Following,
  together,
} from "../redis/connection.ts";
import { Feed, type FeedWiring } from "../redis/feed.ts";
import { type Timer, within } from "../runtime.ts";
import type { FeedListener } from "../store.ts";
import { addressText } from "./url.ts";

/** When a client may have found servers, or lost some. */
const EVENTS = ["ready", "close", "+node", "-node"];
/** How soon primaries are asked again that do not say the same: what they tell each other is under way. */
const SETTLE_MS = 100;

/** The parts of a {@linkcode ClusterFeed}. */
export interface ClusterFeedWiring extends FeedWiring {
  /** Of the feed of each server. */
  readonly options: FeedOptions;
}

/** The feed of one server, and the sign of life it has given. */
interface Member {
  readonly feed: Feed;
  /** When the question was asked that was answered last; `undefined` while the feed is not open. */
  aliveMs: number | undefined;
}

/**
 * A feed for each server that a cluster's client may send commands to, as one.
 *
 * A key may be anywhere from one moment to the next, and whether its entry is valid depends on tags
 * that are elsewhere. So this is good only while every one of them is, and as old as the oldest sign
 * of life. A server that the client finds is one whose feed is not open yet: from that moment on nothing
 * is trusted, and what was read from it without a feed is dropped when the feed opens. One that the
 * client found between two heartbeats cannot outlive the memory lease.
 *
 * Nor can one that the client has not heard of, while the primary whose place it took goes on answering: with
 * each heartbeat all primaries are asked whether they are still the cluster's ({@linkcode ClusterView}), and
 * that is a sign of life like the others. It is asked for where commands are sent: a connection that follows
 * a feed cannot ask.
 */
export class ClusterFeed implements Following {
  readonly #client: Cluster;
  readonly #connect: Access;
  readonly #wiring: ClusterFeedWiring;
  readonly #view: ClusterView;
  /** When the primaries were asked who said last that they are the cluster's. */
  #stoodMs: number | undefined;
  readonly #members = new Map<string, Member>();
  /** Resolves when every feed that was given up is closed. */
  #ending: Promise<unknown> = Promise.resolve();
  #timer: Timer | undefined;
  #viewTimer: Timer | undefined;
  /** Resolves when no question is under way. */
  #asking: Promise<unknown> = Promise.resolve();
  /** The primaries of all slots, as the cluster named them last. */
  #expected: ReadonlySet<string> = new Set();
  #open = false;
  #closed = false;
  readonly #look = (): void => this.#join();
  readonly #refresh = (): void => {
    this.#expected = new Set(this.#primaries().keys());
    this.#join();
  };

  constructor(client: Cluster, connect: Access, wiring: ClusterFeedWiring) {
    this.#client = client;
    this.#connect = connect;
    this.#wiring = wiring;
    this.#view = new ClusterView(wiring.clock, wiring.options.silenceMsMax);
    for (const event of EVENTS) client.on(event, this.#look);
    client.on("refresh", this.#refresh);
    this.#beat();
    void this.#watch();
  }

  /** Begins every feed anew. */
  restart(): void {
    for (const { feed } of this.#members.values()) feed.restart();
  }

  /** Ends every feed, and waits for what the primaries were asked: not longer than they have to hang up. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#viewTimer?.cancel();
    this.#view.close();
    for (const event of EVENTS) this.#client.off(event, this.#look);
    this.#client.off("refresh", this.#refresh);
    await Promise.all([
      this.#ending,
      within(this.#wiring.clock, DISCONNECT_MS, this.#asking),
      ...[...this.#members.values()].map(({ feed }) => feed.close()),
    ]);
  }

  /** Servers may change their roles without an event. */
  #beat(): void {
    this.#join();
    const { clock, options } = this.#wiring;
    this.#timer = clock.after(options.heartbeatMs, () => this.#beat());
  }

  /** Asks the primaries, and goes on asking. Never rejects. */
  async #watch(): Promise<void> {
    const stands = await this.#ask();
    if (this.#closed) return;
    const { clock, options: { heartbeatMs } } = this.#wiring;
    const delayMs = stands ? heartbeatMs : Math.min(SETTLE_MS, heartbeatMs);
    this.#viewTimer = clock.after(delayMs, () => void this.#watch());
  }

  /** Whether the primaries that are followed are known to be those of the cluster. */
  async #ask(): Promise<boolean> {
    const nodes = this.#primaries();
    if (this.#client.status !== "ready" || !this.#reached(nodes)) return false;
    const askedMs = this.#wiring.clock.monotonicNow();
    let stands: boolean;
    try {
      const asking = this.#view.stands(nodes);
      this.#asking = asking.catch(() => undefined);
      stands = await asking;
    } catch {
      return false; // No sign of life: that ends trust in its time.
    }
    if (this.#closed || !sameKeys(nodes, this.#members)) return false;
    this.#stoodMs = stands ? askedMs : undefined;
    if (stands) this.#join();
    else this.#lost("the primaries do not agree on the cluster");
    return stands;
  }

  /** Follows the servers that there are now, and no others. */
  #join(): void {
    if (this.#closed) return;
    // Until it has asked who owns what, the client takes every server that it was told of for a primary.
    if (this.#client.status !== "ready") return this.#lost("the cluster cannot be reached");
    const nodes = this.#primaries();
    if (!sameKeys(nodes, this.#members)) this.#stoodMs = undefined;
    for (const [key, { feed }] of this.#members) {
      if (nodes.has(key)) continue;
      // Somebody else will own its keys, and tell us nothing until we follow it.
      this.#lost("a server left");
      this.#members.delete(key);
      this.#ending = Promise.all([this.#ending, feed.close()]);
    }
    for (const [key, { options: { host, port } }] of nodes) {
      if (this.#members.has(key)) continue;
      this.#lost("a server joined");
      const connect = together(this.#connect, host && port ? { host, port } : {});
      const { options, clock, onRefused } = this.#wiring;
      const feed = new Feed(connect, options, { listener: this.#listener(key), clock, onRefused });
      this.#members.set(key, { feed, aliveMs: undefined });
    }
    if (this.#reached(nodes)) this.#report();
    else this.#lost("a server cannot be reached");
  }

  #primaries(): ReadonlyMap<string, Redis> {
    return new Map(this.#client.nodes("master").map((node) => [keyOf(node), node]));
  }

  /** Whether commands can be sent to every primary. */
  #reached(nodes: ReadonlyMap<string, Redis>): boolean {
    // The client forgets a server that it cannot reach, until it is named again a second later: memory
    // would come and go with it.
    const needed = new Set([...this.#expected, ...nodes.keys()]);
    return [...needed].every((key) => nodes.get(key)?.status === "ready");
  }

  #listener(key: string): FeedListener {
    const { listener } = this.#wiring;
    return {
      opened: () => {
        // Nothing is trusted yet; the sign of life follows.
      },
      closed: (reason) => {
        const member = this.#members.get(key);
        if (member !== undefined) member.aliveMs = undefined;
        if (!this.#closed) this.#lost(reason);
      },
      alive: (sentAtMs) => {
        const member = this.#members.get(key);
        if (member !== undefined) member.aliveMs = sentAtMs;
        this.#join();
      },
      changed: (redisKey) => listener.changed(redisKey),
      flushed: () => listener.flushed(),
      swapped: () => listener.swapped(),
    };
  }

  /** Passes on a sign of life if every server has given one, and all together have. */
  #report(): void {
    if (this.#stoodMs === undefined || this.#members.size === 0) return;
    let oldestMs = this.#stoodMs;
    for (const { aliveMs } of this.#members.values()) {
      if (aliveMs === undefined) return;
      oldestMs = Math.min(oldestMs, aliveMs);
    }
    const { listener } = this.#wiring;
    if (!this.#open) {
      this.#open = true;
      listener.opened();
    }
    listener.alive(oldestMs);
  }

  #lost(reason: string): void {
    if (!this.#open) return;
    this.#open = false;
    this.#wiring.listener.closed(reason);
  }
}

function keyOf({ options: { host = "", port = 0 } }: Redis): string {
  return addressText({ host, port });
}

function sameKeys(a: ReadonlyMap<string, unknown>, b: ReadonlyMap<string, unknown>): boolean {
  return a.size === b.size && [...a.keys()].every((key) => b.has(key));
}
