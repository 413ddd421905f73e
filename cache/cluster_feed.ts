import type { Cluster, Redis } from "ioredis";
import {
  type ConnectOptions,
  Feed,
  type FeedOptions,
  type FeedWiring,
  type Following,
} from "./feed.ts";
import type { Timer } from "./runtime.ts";
import type { FeedListener } from "./store.ts";

/** When a client may have found servers, or lost some. */
const EVENTS = ["ready", "close", "+node", "-node"];

/** What a {@linkcode ClusterFeed} works with. */
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
 */
export class ClusterFeed implements Following {
  readonly #client: Cluster;
  readonly #connect: ConnectOptions;
  readonly #wiring: ClusterFeedWiring;
  readonly #members = new Map<string, Member>();
  /** Resolves when every feed that was given up is closed. */
  #ending: Promise<unknown> = Promise.resolve();
  #timer: Timer | undefined;
  /** The primaries of all slots, as the cluster named them last. */
  #expected: ReadonlySet<string> = new Set();
  #open = false;
  #closed = false;
  readonly #look = (): void => this.#join();
  readonly #refresh = (): void => {
    this.#expected = new Set(this.#client.nodes("master").map(keyOf));
    this.#join();
  };

  constructor(client: Cluster, connect: ConnectOptions, wiring: ClusterFeedWiring) {
    this.#client = client;
    this.#connect = connect;
    this.#wiring = wiring;
    for (const event of EVENTS) client.on(event, this.#look);
    client.on("refresh", this.#refresh);
    this.#beat();
  }

  /** Begins every feed anew. */
  restart(): void {
    for (const { feed } of this.#members.values()) feed.restart();
  }

  /** Ends every feed. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    for (const event of EVENTS) this.#client.off(event, this.#look);
    this.#client.off("refresh", this.#refresh);
    await Promise.all([
      this.#ending,
      ...[...this.#members.values()].map(({ feed }) => feed.close()),
    ]);
  }

  /** Servers may change their roles without an event. */
  #beat(): void {
    this.#join();
    const { runtime, options } = this.#wiring;
    this.#timer = runtime.clock.after(options.heartbeatMs, () => this.#beat());
  }

  /** Follows the servers that there are now, and no others. */
  #join(): void {
    if (this.#closed) return;
    // Until it has asked who owns what, the client takes every server that it was told of for a primary.
    if (this.#client.status !== "ready") return this.#lost("the cluster cannot be reached");
    const nodes = new Map(this.#client.nodes("master").map((node) => [keyOf(node), node]));
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
      const connect = { ...this.#connect, ...(host && port ? { host, port } : {}) };
      const { options, runtime } = this.#wiring;
      const feed = new Feed(connect, options, { listener: this.#listener(key), runtime });
      this.#members.set(key, { feed, aliveMs: undefined });
    }
    // The client forgets a server that it cannot reach, until it is named again a second later: memory
    // would come and go with it.
    const needed = new Set([...this.#expected, ...nodes.keys()]);
    if ([...needed].every((key) => nodes.get(key)?.status === "ready")) this.#report();
    else this.#lost("a server cannot be reached");
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
    };
  }

  /** Passes on a sign of life if every server has given one. */
  #report(): void {
    let oldestMs = Infinity;
    for (const { aliveMs } of this.#members.values()) {
      if (aliveMs === undefined) return;
      oldestMs = Math.min(oldestMs, aliveMs);
    }
    if (oldestMs === Infinity) return;
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

function keyOf({ options: { host, port } }: Redis): string {
  return `${host} ${port}`;
}
