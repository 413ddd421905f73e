import { assert, assertEquals } from "@std/assert";
import type { ClusterBus } from "./cluster_bus.ts";
import { eventually } from "./eventually.ts";
import { lastingPort } from "./free_port.ts";
import { redisCli } from "./redis_cli.ts";
import { type RedisServer, startRedis, withServiceUser } from "./redis_server.ts";

const PRIMARIES = 3;

/** A node that does not answer for this long counts as failing. */
const NODE_TIMEOUT_MS = 1_000;

const SETTLED = { deadlineMs: 30_000, everyMs: 50 };

/** Options of {@linkcode startRedisCluster}. */
export interface RedisClusterOptions {
  /** Number of replicas of each primary. Default 1. */
  readonly replicas?: number;
  /** More arguments of every `redis-server`. */
  readonly args?: readonly string[];
  /** The bus between the servers. Default: direct connections, and no server can be cut off. */
  readonly bus?: ClusterBus;
}

/** One line of `CLUSTER NODES`. */
interface Listed {
  readonly id: string;
  readonly port: number;
  readonly flags: readonly string[];
  /** The id of its primary, or `-`. */
  readonly primary: string;
  readonly linked: boolean;
  /** Ranges. Moving slots are left out. */
  readonly slots: readonly (readonly [first: number, last: number])[];
}

/** A Redis Cluster of three primaries and their replicas. */
export class RedisCluster implements AsyncDisposable {
  readonly #servers: RedisServer[];
  readonly #options: RedisClusterOptions;
  #cutOff: RedisServer | undefined;

  /** Use {@linkcode startRedisCluster}. */
  constructor(servers: RedisServer[], options: RedisClusterOptions) {
    this.#servers = servers;
    this.#options = options;
  }

  /** Every server that was started and not removed. */
  get servers(): readonly RedisServer[] {
    return this.#servers;
  }

  /** `redis-cluster://127.0.0.1:{port},…` of the present servers. */
  get url(): string {
    return `redis-cluster://${this.#servers.map(({ port }) => `127.0.0.1:${port}`).join(",")}`;
  }

  /** The same for the user of `ops/redis.acl`. */
  get serviceUrl(): string {
    return withServiceUser(this.url, this.#servers);
  }

  /** The servers that own slots, as the running servers see it. */
  async primaries(): Promise<RedisServer[]> {
    const listed = (await this.#list()).filter((each) =>
      each.slots.length > 0 && !each.flags.includes("fail")
    );
    return listed.map(({ port }) => this.#at(port));
  }

  async slotOf(redisKey: string): Promise<number> {
    return Number(await this.#running().cli("CLUSTER", "KEYSLOT", redisKey));
  }

  /** The server that owns the slot of a Redis key. */
  async ownerOf(redisKey: string): Promise<RedisServer> {
    return await this.ownerOfSlot(await this.slotOf(redisKey));
  }

  /** The server that owns a slot. */
  async ownerOfSlot(slot: number): Promise<RedisServer> {
    const owner = (await this.#list()).find(({ slots }) =>
      slots.some(([first, last]) => first <= slot && slot <= last)
    );
    assert(owner !== undefined, `Cannot name the owner of slot ${slot}: there is none`);
    return this.#at(owner.port);
  }

  async replicasOf(primary: RedisServer): Promise<RedisServer[]> {
    const listed = await this.#list();
    const id = listed.find(({ port }) => port === primary.port)?.id;
    return listed.filter((each) => each.primary === id).map(({ port }) => this.#at(port));
  }

  /** Waits until another server owns the slot that `before` owned, and answers it. */
  async successorOf(before: RedisServer, slot: number): Promise<RedisServer> {
    return await eventually(async () => {
      const owner = await this.ownerOfSlot(slot);
      assert(owner !== before, "Cannot name the successor: there is none yet");
      assertEquals((await owner.cli("ROLE")).split("\n")[0], "master");
      return owner;
    }, SETTLED);
  }

  /** Makes a replica the primary in its primary's place (`CLUSTER FAILOVER`). */
  async failover(replica: RedisServer): Promise<void> {
    assertEquals(await replica.cli("CLUSTER", "FAILOVER"), "OK");
    await eventually(async () => {
      assertEquals((await replica.cli("ROLE")).split("\n")[0], "master");
    }, SETTLED);
    await this.settled();
  }

  /**
   * Cuts a server off from all others, but not from clients. It cannot be restarted meanwhile. Needs {@linkcode
   * RedisClusterOptions.bus}.
   */
  async cutOff(server: RedisServer): Promise<void> {
    this.#bus.cutOff(server.port, await server.cli("CLUSTER", "MYID"));
    this.#cutOff = server;
    // Replication uses the port of clients.
    await server.cli("ACL", "SETUSER", "default", "-psync", "-sync");
    await server.cli("CLIENT", "KILL", "TYPE", "replica");
  }

  /** Connects it to the others again, and waits until all agree. */
  async heal(): Promise<void> {
    await this.#cutOff?.cli("ACL", "SETUSER", "default", "+psync", "+sync");
    this.#cutOff = undefined;
    this.#bus.heal();
    await this.settled();
  }

  /**
   * Moves a slot and its keys. `between` is called when its keys are at the new owner while the cluster still
   * names the old one, which redirects clients (`ASK`).
   */
  async migrateSlot(
    slot: number,
    target: RedisServer,
    between: () => Promise<void> = () => Promise.resolve(),
  ): Promise<void> {
    const source = await this.ownerOfSlot(slot);
    assert(source !== target, `Cannot migrate slot ${slot}: it is there already`);
    const listed = await this.#list();
    const idOf = (server: RedisServer) => listed.find(({ port }) => port === server.port)?.id ?? "";
    await target.cli("CLUSTER", "SETSLOT", `${slot}`, "IMPORTING", idOf(source));
    await source.cli("CLUSTER", "SETSLOT", `${slot}`, "MIGRATING", idOf(target));
    await moveKeys(slot, source, target);
    await between();
    // Keys that were written meanwhile on the old owner.
    await moveKeys(slot, source, target);
    for (const server of [target, source]) {
      assertEquals(await server.cli("CLUSTER", "SETSLOT", `${slot}`, "NODE", idOf(target)), "OK");
    }
    await this.settled();
  }

  /** Adds a server and gives it that many slots of the others. */
  async addPrimary(slots: number): Promise<RedisServer> {
    const existing = address(this.#running());
    const added = await startNode(this.#options);
    this.#servers.push(added);
    await redisCli("--cluster", "add-node", address(added), existing);
    await this.settled();
    await this.#reshard({ from: "all", to: await added.cli("CLUSTER", "MYID"), slots });
    return added;
  }

  /** Removes a server: its slots go to another primary, and it ends. */
  async remove(server: RedisServer): Promise<void> {
    const id = await server.cli("CLUSTER", "MYID");
    const listed = await this.#list();
    const slots = listed.find((each) => each.id === id)?.slots ?? [];
    const others = listed.filter((each) => each.id !== id && each.slots.length > 0);
    const count = slots.reduce((sum, [first, last]) => sum + last - first + 1, 0);
    if (count > 0) await this.#reshard({ from: id, to: others[0]?.id ?? "", slots: count });
    const other = this.#servers.find((each) => each !== server && each.running);
    assert(other !== undefined, "Cannot remove the last server");
    await redisCli("--cluster", "del-node", address(other), id);
    this.#servers.splice(this.#servers.indexOf(server), 1);
    await server[Symbol.asyncDispose]();
    await this.settled();
  }

  /** Waits until every running server sees all slots served, and all other running servers. */
  async settled(): Promise<void> {
    await eventually(async () => {
      const running = this.#servers.filter((server) => server.running);
      const views = await Promise.all(running.map(async (server) => {
        const info = await server.cli("CLUSTER", "INFO");
        assert(/cluster_state:ok/.test(info) && /cluster_slots_ok:16384/.test(info), info);
        const listed = await listedBy(server);
        const missing = running.filter(({ port }) =>
          !listed.some((each) =>
            each.port === port && each.linked &&
            !each.flags.some((flag) => ["fail", "fail?", "handshake", "noaddr"].includes(flag))
          )
        );
        assertEquals(missing.map(({ port }) => port), []);
        return listed.flatMap(({ port, primary, slots }) => [
          `${port} of ${primary}`,
          ...slots.map(([first, last]) => `${port} ${first}-${last}`),
        ]).sort();
      }));
      for (const view of views) assertEquals(view, views[0]);
      await Promise.all(running.map(async (server) => {
        const [role, , , link] = (await server.cli("ROLE")).split("\n");
        if (role === "slave") assertEquals(link, "connected");
      }));
    }, SETTLED);
  }

  /** Stops every process, and removes its files. */
  async [Symbol.asyncDispose](): Promise<void> {
    await using stack = new AsyncDisposableStack();
    if (this.#options.bus !== undefined) stack.use(this.#options.bus);
    for (const server of this.#servers) stack.use(server);
  }

  async #reshard(move: { from: string; to: string; slots: number }): Promise<void> {
    await redisCli(
      ...["--cluster", "reshard", address(this.#running()), "--cluster-from", move.from],
      ...["--cluster-to", move.to, "--cluster-slots", `${move.slots}`, "--cluster-yes"],
    );
    await this.settled();
  }

  get #bus(): ClusterBus {
    assert(this.#options.bus !== undefined, "Cannot cut a server off: the cluster has no bus");
    return this.#options.bus;
  }

  /** The servers that know the state of the cluster, which one that is cut off does not. */
  #witnesses(): RedisServer[] {
    return this.#servers.filter((server) => server.running && server !== this.#cutOff);
  }

  #running(): RedisServer {
    const [server] = this.#witnesses();
    assert(server !== undefined, "Cannot ask the cluster: no server runs");
    return server;
  }

  #at(port: number): RedisServer {
    const server = this.#servers.find((each) => each.port === port);
    assert(server !== undefined, `Cannot name the server at ${port}: it was not started here`);
    return server;
  }

  /** The list of the first that answers, since one may be paused. */
  async #list(): Promise<Listed[]> {
    return await Promise.any(this.#witnesses().map(listedBy));
  }
}

/** Starts a cluster and waits until it is complete. */
export async function startRedisCluster(options: RedisClusterOptions = {}): Promise<RedisCluster> {
  const { replicas = 1 } = options;
  await using stack = new AsyncDisposableStack();
  const servers: RedisServer[] = [];
  const cluster = stack.use(new RedisCluster(servers, options));
  for (let at = 0; at < PRIMARIES * (1 + replicas); at++) servers.push(await startNode(options));
  await redisCli(
    ...["--cluster", "create", ...servers.map(address)],
    ...["--cluster-replicas", `${replicas}`, "--cluster-yes"],
  );
  await cluster.settled();
  stack.move();
  return cluster;
}

async function startNode({ args = [], bus }: RedisClusterOptions): Promise<RedisServer> {
  const [port, busPort] = [lastingPort(), lastingPort()];
  const announced = bus?.open(port, busPort);
  return await startRedis({
    port,
    args: [
      ...["--cluster-enabled", "yes", "--cluster-port", `${busPort}`],
      ...(announced === undefined ? [] : ["--cluster-announce-bus-port", `${announced}`]),
      ...["--cluster-node-timeout", `${NODE_TIMEOUT_MS}`],
      // A replica may be elected however long it was without its primary on a slow machine.
      ...["--cluster-replica-validity-factor", "0"],
      // Each replica keeps its primary.
      ...["--cluster-allow-replica-migration", "no"],
      ...["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"],
      ...args,
    ],
  });
}

async function listedBy(server: RedisServer): Promise<Listed[]> {
  const text = await server.cli("CLUSTER", "NODES");
  return text.split("\n").filter((line) => line !== "").map((line) => {
    const [id = "", place = "", flags = "", primary = "", , , , link, ...slots] = line.split(" ");
    return {
      id,
      port: Number(/:(\d+)@/.exec(place)?.[1]),
      flags: flags.split(","),
      primary,
      linked: link === "connected",
      slots: slots.filter((range) => !range.startsWith("[")).map(boundsOf),
    };
  });
}

async function moveKeys(slot: number, source: RedisServer, target: RedisServer): Promise<void> {
  const text = await source.cli("CLUSTER", "GETKEYSINSLOT", `${slot}`, "1000");
  const keys = text.split("\n").filter((key) => key !== "");
  if (keys.length === 0) return;
  const to = ["127.0.0.1", `${target.port}`, "", "0", "5000"];
  const answer = await source.cli("MIGRATE", ...to, "REPLACE", "KEYS", ...keys);
  assert(/^(OK|NOKEY)$/.test(answer), answer);
}

function address({ port }: RedisServer): string {
  return `127.0.0.1:${port}`;
}

function boundsOf(range: string): [number, number] {
  const [first = "", last = first] = range.split("-");
  return [Number(first), Number(last)];
}
