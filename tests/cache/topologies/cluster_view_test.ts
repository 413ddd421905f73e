import { assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type ClusterMember, ClusterView } from "../../../cache/topologies/cluster_view.ts";
import { CommandTimeoutError } from "../../../cache/redis/deadlines.ts";
import { FakeClock } from "../../support/fake_runtime.ts";

const ANSWER_MS_MAX = 1_000;

/** What a primary says. */
interface Saying {
  state: string;
  epoch: number;
  ownEpoch: number;
  /** Of the first slots, and of the rest. */
  owners: readonly [string, string];
}

/** A cluster of two primaries, whose answers are made up. */
class Pair {
  readonly a: Saying = { state: "ok", epoch: 7, ownEpoch: 1, owners: ["a:1", "b:1"] };
  readonly b: Saying = { state: "ok", epoch: 7, ownEpoch: 2, owners: ["a:1", "b:1"] };
  readonly members = new Map([["a:1", memberOf(this.a)], ["b:1", memberOf(this.b)]]);
  readonly clock = new FakeClock();
  readonly view = new ClusterView(this.clock, ANSWER_MS_MAX);

  agrees(): Promise<boolean> {
    return this.view.agrees(this.members);
  }

  /** Asks until it is believed. */
  async settle(): Promise<void> {
    await this.agrees();
    assertEquals(await this.agrees(), true);
  }
}

function memberOf(saying: Saying): ClusterMember {
  function cluster(subcommand: "INFO"): Promise<string>;
  function cluster(subcommand: "SLOTS"): Promise<unknown>;
  function cluster(subcommand: "INFO" | "SLOTS"): Promise<unknown> {
    return Promise.resolve(subcommand === "INFO" ? infoOf(saying) : slotsOf(saying));
  }
  return { cluster };
}

function infoOf({ state, epoch, ownEpoch }: Saying): string {
  return `cluster_state:${state}\r\ncluster_size:2\r\ncluster_current_epoch:${epoch}\r\n` +
    `cluster_my_epoch:${ownEpoch}\r\n`;
}

function slotsOf({ owners }: Saying): unknown {
  return owners.map((owner, at) => {
    const [host, port] = owner.split(":");
    return [10 * at, 10 * at + 9, [host, Number(port), "id"], ["replica", 1, "id"]];
  });
}

describe("ClusterView.agrees()", () => {
  it("believes what all primaries say once they have said it twice", async () => {
    const pair = new Pair();
    assertEquals(await pair.agrees(), false);
    assertEquals(await pair.agrees(), true);
    assertEquals(await pair.agrees(), true);
  });

  it("believes nothing while one has not heard of the others' epoch, and then anew", async () => {
    const pair = new Pair();
    await pair.settle();
    pair.b.epoch = 8;
    assertEquals(await pair.agrees(), false);
    assertEquals(await pair.agrees(), false);
    pair.a.epoch = 8;
    assertEquals(await pair.agrees(), false);
    assertEquals(await pair.agrees(), true);
  });

  it("notices an epoch that has passed by between two questions", async () => {
    const pair = new Pair();
    await pair.settle();
    pair.a.epoch = pair.b.epoch = 8;
    assertEquals(await pair.agrees(), false);
    assertEquals(await pair.agrees(), true);
  });

  it("notices that a primary has become a replica, by its epoch", async () => {
    const pair = new Pair();
    await pair.settle();
    pair.a.ownEpoch = 7;
    pair.a.owners = pair.b.owners = ["c:1", "b:1"];
    assertEquals(await pair.agrees(), false);
    assertEquals(await pair.agrees(), false);
  });

  it("believes nothing while one of them is not well", async () => {
    const pair = new Pair();
    await pair.settle();
    pair.a.state = "fail";
    assertEquals(await pair.agrees(), false);
    assertEquals(await pair.agrees(), false);
  });

  it("believes nothing while one names other owners than the rest", async () => {
    const pair = new Pair();
    pair.b.owners = ["c:1", "b:1"];
    await pair.agrees();
    assertEquals(await pair.agrees(), false);
    pair.b.owners = ["b:1", "a:1"];
    assertEquals(await pair.agrees(), false);
    pair.b.owners = ["a:1", "b:1"];
    assertEquals(await pair.agrees(), true);
  });

  it("believes nothing while they name an owner that is not among those asked", async () => {
    const pair = new Pair();
    pair.a.owners = pair.b.owners = ["a:1", "c:1"];
    await pair.agrees();
    assertEquals(await pair.agrees(), false);
  });

  it("believes nothing while one that is asked owns nothing", async () => {
    const pair = new Pair();
    pair.a.owners = pair.b.owners = ["a:1", "a:1"];
    await pair.agrees();
    assertEquals(await pair.agrees(), false);
  });

  it("believes others that are asked only when they have said it twice", async () => {
    const pair = new Pair();
    await pair.settle();
    pair.a.owners = ["a:1", "a:1"];
    const alone = new Map([...pair.members].slice(0, 1));
    assertEquals(await pair.view.agrees(alone), false);
    assertEquals(await pair.view.agrees(alone), true);
  });

  it("rejects when one of them does not answer in time, and takes that for no news", async () => {
    const pair = new Pair();
    await pair.settle();
    const hung = { cluster: () => new Promise<never>(() => {}) };
    const asked = pair.view.agrees(new Map([...pair.members, ["b:1", hung]]));
    const rejected = assertRejects(() => asked, CommandTimeoutError);
    await pair.clock.advance(ANSWER_MS_MAX);
    await rejected;
    assertEquals(await pair.agrees(), true);
  });

  it("rejects when there is no answer to be made sense of", async () => {
    const pair = new Pair();
    const stranger = {
      cluster: (subcommand: string) =>
        Promise.resolve(subcommand === "INFO" ? infoOf(pair.a) : "OK"),
    };
    const members = new Map([["a:1", stranger as ClusterMember]]);
    assertEquals(await pair.view.agrees(members), false);
    await assertRejects(() => pair.view.agrees(members), Error, "unexpected reply");
  });
});
