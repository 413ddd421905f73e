import { Deadlines } from "../redis/deadlines.ts";
import type { Clock } from "../runtime.ts";
import { addressText } from "./url.ts";

/** The questions that a server of a cluster is asked. */
export interface ClusterMember {
  /** `CLUSTER INFO`, `CLUSTER SLOTS`. */
  cluster(subcommand: "INFO"): Promise<string>;
  cluster(subcommand: "SLOTS"): Promise<unknown>;
}

/** The members that are asked, by their address as {@linkcode addressText} has it. */
type ClusterMembers = ReadonlyMap<string, ClusterMember>;

/** Some slots in a row, and the address of the primary that owns them. */
type SlotRange = readonly [from: number, to: number, primary: string];

/**
 * Whether the primaries that a client knows are still those that the cluster has.
 *
 * A primary that is cut off from the others goes on answering:
 *
 * ```text
 * 1. A is cut off from B and C, and not from this process
 * 2. B and C vote for a replica of A, which takes writes from then on
 * 3. A answers a PING: nothing was changed here
 * ```
 *
 * A replica takes over only when a majority of the primaries has voted for it in an epoch that is new to
 * them, and who votes notes the epoch first. So once it has, at least one of those that are asked names
 * an epoch that A has not heard of. If all name the same one, nobody had taken over when they were asked.
 * (Redis Cluster specification, "Replica election and promotion".)
 *
 * A may also hear of the epoch before it hears who won it, from somebody who does not know yet. So a
 * view that is new is believed only when it is the same a second time, and every primary names these
 * primaries, and no others, the owners of the slots. A primary that becomes a replica tells by an epoch of
 * its own that is another.
 *
 * `CLUSTER FAILOVER TAKEOVER` asks nobody for a vote. It is noticed when a primary has heard of its epoch, or
 * when the client is told, for it need not make a new one.
 */
export class ClusterView {
  readonly #deadlines: Deadlines;
  /** The last answer of all primaries; `undefined` if they did not answer the same. */
  #seen: string | undefined;
  #believed = false;

  /** @param answerMsMax How long all of them together may take to answer. */
  constructor(clock: Clock, answerMsMax: number) {
    this.#deadlines = new Deadlines(clock, answerMsMax);
  }

  /**
   * Whether all primaries say the same, and what they said before. Rejects when one does not answer, which
   * tells nothing. Not to be called again before it has answered.
   */
  async stands(primaries: ClusterMembers): Promise<boolean> {
    const { view, owners } = await this.#deadlines.run(this.#ask(primaries));
    if (view === undefined || view !== this.#seen) this.#believed = false;
    else if (owners !== undefined) this.#believed = owners;
    this.#seen = view;
    return this.#believed;
  }

  /** Bounds nothing any more: the connections end. */
  close(): void {
    this.#deadlines.close();
  }

  /** `owners`: whether they are the owners of the slots, which is asked only if it is in question. */
  async #ask(primaries: ClusterMembers): Promise<{ view: string | undefined; owners?: boolean }> {
    const view = await viewOf(primaries);
    const settled = view === undefined || view !== this.#seen || this.#believed;
    return settled ? { view } : { view, owners: await areOwners(primaries) };
  }
}

/** The answer of `CLUSTER SLOTS`, less the replicas. */
export function slotRangesOf(reply: unknown): SlotRange[] {
  if (!Array.isArray(reply)) throw new Error("Cannot ask the cluster: unexpected reply");
  return reply.map(([from, to, [host, port]]) => [
    Number(from),
    Number(to),
    addressText({ host: String(host), port: Number(port) }),
  ]);
}

/**
 * Reads off what `CLUSTER NODES` answers the ids of the primaries that own slots: each slot belongs to the
 * owner of the highest configuration epoch that any of the answers names.
 */
export function newestOwners(answers: readonly string[]): ReadonlySet<string> {
  const owners: { readonly id: string; readonly epoch: number }[] = [];
  for (const line of answers.flatMap((answer) => answer.split("\n"))) {
    const [id = "", , , , , , epochText, , ...ranges] = line.trim().split(" ");
    const epoch = Number(epochText);
    for (const range of ranges) {
      if (range.startsWith("[")) continue; // a slot on its way
      const [from = "", to = from] = range.split("-");
      for (let slot = Number(from); slot <= Number(to); slot++) {
        if (epoch >= (owners[slot]?.epoch ?? 0)) owners[slot] = { id, epoch };
      }
    }
  }
  return new Set(owners.map(({ id }) => id));
}

/** Reads off what `CLUSTER NODES` answers the id of the server that was asked. */
export function idOf(answer: string): string {
  return /^(\w+) \S+ \S*myself/m.exec(answer)?.[1] ?? "";
}

/** The epoch that all primaries name, and the one of each; `undefined` if they differ or one is not well. */
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

/** Whether each of them says that the slots are theirs together, and nobody else's. */
async function areOwners(primaries: ClusterMembers): Promise<boolean> {
  const views = await Promise.all([...primaries.values()].map(async (primary) => {
    const ranges = slotRangesOf(await primary.cluster("SLOTS"));
    const owners = new Set(ranges.map(([, , owner]) => owner));
    const same = owners.size === primaries.size && [...owners].every((at) => primaries.has(at));
    return same ? ranges.map((range) => range.join(" ")).sort().join("\n") : undefined;
  }));
  return views[0] !== undefined && views.every((view) => view === views[0]);
}
