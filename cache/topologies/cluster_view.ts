import type { Cluster, Redis } from "ioredis";
import { Deadlines } from "../redis/deadlines.ts";
import type { Clock } from "../runtime.ts";
import { addressText } from "./url.ts";

/** The commands that a cluster server is asked. */
export interface ClusterMember {
  /** `CLUSTER INFO`, `CLUSTER SLOTS`. */
  cluster(subcommand: "INFO"): Promise<string>;
  cluster(subcommand: "SLOTS"): Promise<unknown>;
}

/** The servers to ask, by their {@linkcode addressText}. */
type ClusterMembers = ReadonlyMap<string, ClusterMember>;

/** A range of slots and the address of the primary that owns them. */
type SlotRange = readonly [from: number, to: number, primary: string];

/**
 * Tells whether the primaries that a client knows are still those of the cluster.
 *
 * A primary that is cut off from the others keeps answering:
 *
 * ```text
 * 1. A is cut off from B and C, and not from this process
 * 2. B and C vote for a replica of A, which accepts writes from now on
 * 3. A answers a PING: nothing has changed here
 * ```
 *
 * A replica takes over only after a majority of the primaries has voted for it in an epoch that is new to them,
 * and each records the epoch before it votes. So after a takeover at least one of the asked primaries names an
 * epoch that A has not heard of. If all name the same epoch, there was no takeover before they were asked.
 * (Redis Cluster specification, "Replica election and promotion".)
 *
 * A may hear of the epoch before it hears of the winner. So a new view is trusted only if it is the same twice,
 * and if every primary names exactly these primaries as the owners of the slots. A primary that becomes a
 * replica is noticed by a changed epoch of its own.
 *
 * `CLUSTER FAILOVER TAKEOVER` asks for no votes, and may not create a new epoch. It is noticed when a primary
 * hears of its epoch, or when the client does.
 */
export class ClusterView {
  readonly #deadlines: Deadlines;
  /** The last answer of all primaries; `undefined` if they differed. */
  #seen: string | undefined;
  #believed = false;

  /** @param answerMsMax The longest time for all answers together. */
  constructor(clock: Clock, answerMsMax: number) {
    this.#deadlines = new Deadlines(clock, answerMsMax);
  }

  /**
   * True if all primaries agree, and as before. Rejects if one does not answer, which proves nothing. Call it
   * again only after it has answered.
   */
  async agrees(primaries: ClusterMembers): Promise<boolean> {
    const { view, owners } = await this.#deadlines.run(this.#ask(primaries));
    if (view === undefined || view !== this.#seen) this.#believed = false;
    else if (owners !== undefined) this.#believed = owners;
    this.#seen = view;
    return this.#believed;
  }

  /** Ends the time limit: the connections are closing. */
  close(): void {
    this.#deadlines.close();
  }

  /** `owners` is true if they own the slots; this is asked only if it is in doubt. */
  async #ask(primaries: ClusterMembers): Promise<{ view: string | undefined; owners?: boolean }> {
    const view = await viewOf(primaries);
    const settled = view === undefined || view !== this.#seen || this.#believed;
    return settled ? { view } : { view, owners: await areOwners(primaries) };
  }
}

/** The primaries that a cluster's client sends commands to, by address. */
export function primariesOf(client: Cluster): ReadonlyMap<string, Redis> {
  return new Map(client.nodes("master").map((node) => [addressOf(node), node]));
}

/** The address of a server that a cluster's client knows. */
export function addressOf({ options: { host = "", port = 0 } }: Redis): string {
  return addressText({ host, port });
}

/** The reply of `CLUSTER SLOTS` without replicas. */
export function slotRangesOf(reply: unknown): SlotRange[] {
  if (!Array.isArray(reply)) throw new Error("Cannot ask the cluster: unexpected reply");
  return reply.map(([from, to, [host, port]]) => [
    Number(from),
    Number(to),
    addressText({ host: String(host), port: Number(port) }),
  ]);
}

/**
 * Reads from replies of `CLUSTER NODES` the ids of the primaries that own slots: each slot belongs to the owner
 * with the highest configuration epoch in any reply.
 */
export function newestOwners(answers: readonly string[]): ReadonlySet<string> {
  const owners: { readonly id: string; readonly epoch: number }[] = [];
  for (const line of answers.flatMap((answer) => answer.split("\n"))) {
    const [id = "", , , , , , epochText, , ...ranges] = line.trim().split(" ");
    const epoch = Number(epochText);
    for (const range of ranges) {
      if (range.startsWith("[")) continue; // a moving slot
      const [from = "", to = from] = range.split("-");
      for (let slot = Number(from); slot <= Number(to); slot++) {
        if (epoch >= (owners[slot]?.epoch ?? 0)) owners[slot] = { id, epoch };
      }
    }
  }
  return new Set(owners.map(({ id }) => id));
}

/** Reads from a reply of `CLUSTER NODES` the id of the server that replied. */
export function idOf(answer: string): string {
  return /^(\w+) \S+ \S*myself/m.exec(answer)?.[1] ?? "";
}

/** The epoch that all primaries name, with each one's own; `undefined` if they differ or one is not well. */
async function viewOf(primaries: ClusterMembers): Promise<string | undefined> {
  const epochs = new Set<string>();
  const own = await Promise.all([...primaries].map(async ([address, primary]) => {
    const info = await primary.cluster("INFO");
    epochs.add(fieldOf(info, "state") === "ok" ? fieldOf(info, "current_epoch") : "");
    return `${address} ${fieldOf(info, "my_epoch")}`;
  }));
  const [epoch = "", other] = epochs;
  return epoch === "" || other !== undefined ? undefined : [epoch, ...own.sort()].join("\n");
}

function fieldOf(info: string, name: string): string {
  return new RegExp(`^cluster_${name}:(\\w+)`, "m").exec(info)?.[1] ?? "";
}

/** True if each of them says that together they own the slots, and no other server does. */
async function areOwners(primaries: ClusterMembers): Promise<boolean> {
  const views = await Promise.all([...primaries.values()].map(async (primary) => {
    const ranges = slotRangesOf(await primary.cluster("SLOTS"));
    const owners = new Set(ranges.map(([, , owner]) => owner));
    const same = owners.size === primaries.size && [...owners].every((at) => primaries.has(at));
    return same ? ranges.map((range) => range.join(" ")).sort().join("\n") : undefined;
  }));
  return views[0] !== undefined && views.every((view) => view === views[0]);
}
