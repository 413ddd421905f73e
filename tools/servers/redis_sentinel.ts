import { assert, assertEquals } from "@std/assert";
import { eventually } from "./eventually.ts";
import { lastingPort } from "./free_port.ts";
import { redisCli } from "./redis_cli.ts";
import { type RedisServer, startRedis, withServiceUser } from "./redis_server.ts";
import { ServerProcess, started } from "./server_process.ts";

/** The Sentinels' name for the primary. */
const MASTER = "lookaside";
const REPLICAS = 2;
const SENTINELS = 3;
const QUORUM = 2;

/** A primary that does not answer for this long counts as down. */
const DOWN_AFTER_MS = 500;

/** Longest duration of a failover, and half of the time until the next attempt. */
const FAILOVER_TIMEOUT_MS = 2_000;

/**
 * Intervals of the Sentinels, short because tests wait for them. A machine that is busy for two seconds must not
 * make them idle for thirty.
 */
const PACE = ["info-period", "500", "publish-period", "500", "tilt-trigger", "20000"];

const SETTLED = { deadlineMs: 30_000, everyMs: 50 };

export class SentinelServer extends ServerProcess {
  /** The port it listens on, also after a restart. */
  readonly port: number;

  /** Use {@linkcode startRedisSentinel}. */
  constructor(port: number, directory: string) {
    super({
      command: "redis-server",
      args: [`${directory}/sentinel.conf`, "--sentinel"],
      ready: /\+monitor master/,
      ownDirectory: directory,
    });
    this.port = port;
  }

  /** Runs one command through `redis-cli`. */
  async cli(...args: string[]): Promise<string> {
    return await redisCli("-p", String(this.port), "--raw", ...args);
  }

  /** Starts it with the intervals of tests. */
  override async start(): Promise<void> {
    await super.start();
    await this.cli("SENTINEL", "DEBUG", ...PACE);
  }
}

/** A primary with two replicas, and three Sentinels that watch them. */
export class RedisSentinel implements AsyncDisposable {
  /** Every server, the first primary first. */
  readonly servers: readonly RedisServer[];
  readonly sentinels: readonly SentinelServer[];
  /** `redis-sentinel://127.0.0.1:{port},…/{master}`. */
  readonly url: string;

  /** Use {@linkcode startRedisSentinel}. */
  constructor(servers: readonly RedisServer[], sentinels: readonly SentinelServer[]) {
    this.servers = servers;
    this.sentinels = sentinels;
    this.url = `redis-sentinel://${
      sentinels.map(({ port }) => `127.0.0.1:${port}`).join(",")
    }/${MASTER}`;
  }

  /** The same for the user of `ops/redis.acl`. */
  get serviceUrl(): string {
    return withServiceUser(this.url, this.servers);
  }

  /** The server that a majority of the Sentinels calls the primary. */
  async primary(): Promise<RedisServer> {
    const ports = await Promise.all(
      this.sentinels.filter(({ running }) => running).map(async (sentinel) => {
        const answer = await sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER);
        return Number(answer.split("\n")[1]);
      }),
    );
    const found = this.servers.find(({ port }) =>
      ports.filter((each) => each === port).length >= QUORUM
    );
    assert(found !== undefined, `Cannot name the primary: the Sentinels say ${ports}`);
    return found;
  }

  /** Waits until another server than `before` is the primary and accepts writes, and answers it. */
  async primaryAfter(before: RedisServer): Promise<RedisServer> {
    return await eventually(async () => {
      const primary = await this.primary();
      assert(primary !== before, "Cannot name the next primary: it is still the last one");
      assertEquals(await primary.cli("ROLE").then((text) => text.split("\n")[0]), "master");
      return primary;
    }, SETTLED);
  }

  /** Asks for a failover (`SENTINEL FAILOVER`) and answers the next primary once it is one. */
  async failover(): Promise<RedisServer> {
    const before = await this.primary();
    const [sentinel] = this.sentinels.filter(({ running }) => running);
    assert(sentinel !== undefined, "Cannot fail over: no Sentinel runs");
    // A replica counts only if it was heard of lately, and a running failover must end first.
    await eventually(
      async () => assertEquals(await sentinel.cli("SENTINEL", "FAILOVER", MASTER), "OK"),
      SETTLED,
    );
    return await this.primaryAfter(before);
  }

  /** Waits until every running server has its role, and every Sentinel knows all of them. */
  async settled(): Promise<void> {
    await eventually(async () => {
      const running = this.servers.filter((server) => server.running);
      const primary = await this.primary();
      for (const server of running.filter((each) => each !== primary)) {
        const [role, , port, link] = (await server.cli("ROLE")).split("\n");
        assertEquals([role, Number(port), link], ["slave", primary.port, "connected"]);
      }
      for (const sentinel of this.sentinels.filter((each) => each.running)) {
        const lines = (await sentinel.cli("SENTINEL", "MASTER", MASTER)).split("\n");
        const field = (name: string) => lines[lines.indexOf(name) + 1];
        assertEquals(field("flags"), "master");
        assert(Number(field("num-slaves")) >= running.length - 1, "it does not know all replicas");
        assertEquals(field("num-other-sentinels"), String(this.sentinels.length - 1));
      }
    }, SETTLED);
  }

  /** Stops every process, and removes its files. */
  async [Symbol.asyncDispose](): Promise<void> {
    await using stack = new AsyncDisposableStack();
    for (const each of [...this.sentinels, ...this.servers]) stack.use(each);
  }
}

/** Starts a primary, two replicas of it and three Sentinels, and waits until they know each other. */
export async function startRedisSentinel(): Promise<RedisSentinel> {
  await using stack = new AsyncDisposableStack();
  const primary = stack.use(await startRedis({ port: lastingPort(), args: REPLICATION }));
  const servers = [primary];
  for (let at = 0; at < REPLICAS; at++) {
    const args = [...REPLICATION, "--replicaof", "127.0.0.1", String(primary.port)];
    servers.push(stack.use(await startRedis({ port: lastingPort(), args })));
  }
  await eventually(async () => {
    const info = await primary.cli("INFO", "replication");
    assertEquals(info.match(/state=online/g)?.length, REPLICAS);
  }, SETTLED);
  const sentinels: SentinelServer[] = [];
  for (let at = 0; at < SENTINELS; at++) sentinels.push(stack.use(await startSentinel(primary)));
  const topology = new RedisSentinel(servers, sentinels);
  await topology.settled();
  stack.move();
  return topology;
}

/** Makes a replica copy everything at once, not after five seconds. */
const REPLICATION = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];

async function startSentinel(primary: RedisServer): Promise<SentinelServer> {
  const directory = await Deno.makeTempDir({ prefix: "lookaside_sentinel_" });
  const port = lastingPort();
  const lines = [
    `port ${port}`,
    "bind 127.0.0.1",
    `dir ${directory}`,
    "daemonize no",
    `sentinel monitor ${MASTER} 127.0.0.1 ${primary.port} ${QUORUM}`,
    `sentinel down-after-milliseconds ${MASTER} ${DOWN_AFTER_MS}`,
    `sentinel failover-timeout ${MASTER} ${FAILOVER_TIMEOUT_MS}`,
    `sentinel parallel-syncs ${MASTER} ${REPLICAS}`,
  ];
  await Deno.writeTextFile(`${directory}/sentinel.conf`, `${lines.join("\n")}\n`);
  return await started(new SentinelServer(port, directory));
}
