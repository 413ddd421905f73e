import type { Cluster, Redis } from "ioredis";
import { ClusterView, primariesOf } from "./cluster_view.ts";
import { type Access, DISCONNECT_MS, type Following } from "../redis/connection.ts";
import { Feed, type FeedWiring } from "../redis/feed.ts";
import { completed, type Timer, within } from "../runtime.ts";
import type { FeedListener } from "../store.ts";

/** Events after which the client may know more or fewer servers. */
const EVENTS = ["ready", "close", "+node", "-node"];
/** Delay before primaries that disagree are asked again: their messages to each other may still be on the way. */
const SETTLE_MS = 100;

/** The feed of one server and its last sign of life. */
interface Member {
  readonly feed: Feed;
  /** Time of the last question that was answered; `undefined` while the feed is not open. */
  aliveMs: number | undefined;
}

/**
 * One feed made of the feeds of all primaries that a cluster's client uses.
 *
 * A key can move to any server at any time, and its entry may depend on tags on other servers. So this feed is
 * alive only while every member is, as of the oldest sign of life. When the client finds a new server, that feed
 * is not open yet: nothing is trusted until it is, and entries read before are dropped when it opens. A server
 * that was found between two heartbeats cannot cause older reads than the memory lease permits.
 *
 * A primary that was replaced may keep answering, and the client may not know its successor. So with each heartbeat
 * all primaries are asked whether they still belong to the cluster ({@linkcode ClusterView}), which counts like a
 * sign of life. The question is sent on the command connection, because a feed connection cannot ask.
 */
export class ClusterFeed implements Following {
  readonly #client: Cluster;
  readonly #connect: () => Access;
  readonly #wiring: FeedWiring;
  readonly #view: ClusterView;
  /** Time of the last question after which the primaries were known to be current. */
  #agreedAtMs: number | undefined;
  readonly #members = new Map<string, Member>();
  /** Resolves when all former feeds are closed. */
  #ending: Promise<void> = Promise.resolve();
  #timer: Timer | undefined;
  /** Resolves when no question is running. */
  #asking: Promise<unknown> = Promise.resolve();
  /** The primaries of all slots, as the cluster last named them. */
  #expected: ReadonlySet<string> = new Set();
  #open = false;
  #closed = false;
  readonly #look = (): void => this.#join();
  readonly #refresh = (): void => {
    this.#expected = new Set(primariesOf(this.#client).keys());
    this.#join();
  };

  constructor(client: Cluster, connect: () => Access, wiring: FeedWiring) {
    this.#client = client;
    this.#connect = connect;
    this.#wiring = wiring;
    this.#view = new ClusterView(wiring.clock, wiring.silenceMsMax);
    for (const event of EVENTS) client.on(event, this.#look);
    client.on("refresh", this.#refresh);
    void this.#watch();
  }

  /** Reopens every feed. */
  restart(): void {
    for (const { feed } of this.#members.values()) feed.restart();
  }

  /** Closes every feed, and waits for running questions, at most as long as for closing sockets. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#view.close();
    for (const event of EVENTS) this.#client.off(event, this.#look);
    this.#client.off("refresh", this.#refresh);
    await Promise.all([
      this.#ending,
      within(this.#wiring.clock, DISCONNECT_MS, this.#asking),
      ...[...this.#members.values()].map(({ feed }) => feed.close()),
    ]);
  }

  /** Asks the primaries, again and again. Never rejects. */
  async #watch(): Promise<void> {
    this.#join(); // servers may change roles without an event
    const agrees = await this.#ask();
    if (this.#closed) return;
    const { clock, heartbeatMs } = this.#wiring;
    const delayMs = agrees ? heartbeatMs : Math.min(SETTLE_MS, heartbeatMs);
    this.#timer = clock.after(delayMs, () => void this.#watch());
  }

  /** True if the followed primaries are known to be those of the cluster. */
  async #ask(): Promise<boolean> {
    const nodes = primariesOf(this.#client);
    if (this.#client.status !== "ready" || !this.#reached(nodes)) return false;
    const askedMs = this.#wiring.clock.monotonicNow();
    let agrees: boolean;
    try {
      const asking = this.#view.agrees(nodes);
      this.#asking = asking.catch(() => undefined);
      agrees = await asking;
    } catch {
      return false; // No sign of life, so trust will run out.
    }
    if (this.#closed || !sameKeys(nodes, this.#members)) return false;
    this.#agreedAtMs = agrees ? askedMs : undefined;
    if (agrees) this.#join();
    else this.#lost("the primaries do not agree on the cluster");
    return agrees;
  }

  /** Follows exactly the current servers. */
  #join(): void {
    if (this.#closed) return;
    // Before it has asked for slot owners, the client takes every known server for a primary.
    if (this.#client.status !== "ready") return this.#lost("the cluster cannot be reached");
    const nodes = primariesOf(this.#client);
    if (!sameKeys(nodes, this.#members)) this.#agreedAtMs = undefined;
    for (const [key, { feed }] of this.#members) {
      if (nodes.has(key)) continue;
      // Its keys get another owner, which announces nothing until we follow it.
      this.#lost("a server left");
      this.#members.delete(key);
      this.#ending = completed([this.#ending, feed.close()]);
    }
    for (const [key, { options: { host, port } }] of nodes) {
      if (this.#members.has(key)) continue;
      this.#lost("a server joined");
      const connect = () => ({ ...this.#connect(), ...(host && port ? { host, port } : {}) });
      const feed = new Feed(connect, { ...this.#wiring, listener: this.#listener(key) });
      this.#members.set(key, { feed, aliveMs: undefined });
    }
    if (this.#reached(nodes)) this.#report();
    else this.#lost("a server cannot be reached");
  }

  /** True if commands can be sent to every primary. */
  #reached(nodes: ReadonlyMap<string, Redis>): boolean {
    // The client forgets a server that it cannot reach until it is named again a second later; memory would be
    // switched off and on with it.
    const needed = new Set([...this.#expected, ...nodes.keys()]);
    return [...needed].every((key) => nodes.get(key)?.status === "ready");
  }

  #listener(key: string): FeedListener {
    const { listener } = this.#wiring;
    return {
      opened: () => {
        // Nothing is trusted yet; a sign of life follows.
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

  /** Reports a sign of life if every server has given one, and so have the primaries together. */
  #report(): void {
    if (this.#agreedAtMs === undefined || this.#members.size === 0) return;
    let oldestMs = this.#agreedAtMs;
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

function sameKeys(a: ReadonlyMap<string, unknown>, b: ReadonlyMap<string, unknown>): boolean {
  return a.size === b.size && [...a.keys()].every((key) => b.has(key));
}
