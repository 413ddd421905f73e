import { assert, assertEquals, assertGreater } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { Keyspace } from "../../../cache/keys.ts";
import { parseTopology, systemRuntime } from "../../../cache/mod.ts";
import { backendsOf } from "../../../cache/topologies/open.ts";
import { RedisStore } from "../../../cache/redis/redis_store.ts";
import type { Connection } from "../../../cache/redis/connection.ts";
import type { FeedListener } from "../../../cache/store.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import { type RedisServer, startRedis } from "../../../tools/servers/redis_server.ts";
import { startTcpProxy } from "../../../tools/servers/tcp_proxy.ts";
import { ownTime } from "../../support/own_time.ts";
import {
  closeAll,
  coherent,
  freshPrefix,
  holdInMemory,
  type Node,
  openNode,
  openNodes,
  Row,
} from "./nodes.ts";

const MEMORY_LEASE_MS = 1_500;
/** Late, so that what ends the trust is the lease and not the next heartbeat. */
const HEARTBEAT_MS = 900;
const LEASES = { memoryLeaseMs: MEMORY_LEASE_MS, heartbeatMs: HEARTBEAT_MS };

/** A store that reads and writes at one address and has its feed from another. */
class SplitStore extends RedisStore {
  readonly #feed: RedisStore;

  constructor(dataUrl: string, feedUrl: string, prefix: string) {
    const options = {
      keyspace: new Keyspace(prefix, 1),
      runtime: systemRuntime,
      compressBytesMin: 1_024,
      commandTimeoutMs: 2_000,
      leaseMs: 5_000,
      ...LEASES,
      onError: () => {},
      onBreaker: () => {},
      isConfirmed: () => true,
    };
    super(connectionTo(dataUrl), options);
    this.#feed = new RedisStore(connectionTo(feedUrl), options);
  }

  override follow(listener: FeedListener): void {
    this.#feed.follow(listener);
  }

  override async close(): Promise<void> {
    await Promise.all([super.close(), this.#feed.close()]);
  }
}

function connectionTo(url: string): Connection {
  const [backend] = backendsOf(parseTopology(url));
  assert(backend !== undefined);
  return backend.connect({
    commandTimeoutMs: 2_000,
    boundsCommands: false,
    clock: systemRuntime.clock,
    onError: () => {},
    onConnection: () => {},
    onChange: () => {},
    onConfirmed: () => {},
    onRefused: () => {},
  });
}

function entriesOf({ cache }: Node): number {
  return cache.stats().memory.entries;
}

interface Observed {
  readonly atMs: number;
  readonly source: string;
  readonly value: string | undefined;
}

/** Reads without pause for a while, and answers what came when (from the moment a read began). */
async function observe(node: Node, row: Row, untilMs: number): Promise<Observed[]> {
  const observed: Observed[] = [];
  while (performance.now() < untilMs) {
    const atMs = performance.now();
    const found = await node.cache.getOrLoad("k", row.load);
    observed.push({ atMs, source: found.source, value: found.value() });
    // A memory hit never yields to the event loop by itself.
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return observed;
}

describe("A feed that hangs without closing", () => {
  for (const returns of ["resumes", "is replaced"] as const) {
    it(`bypasses memory within the memory lease, and holds nothing old once it ${returns}`, async () => {
      await using server = await startRedis();
      await using proxy = startTcpProxy(server.port);
      const prefix = freshPrefix();
      const store = new SplitStore(server.url, `redis://127.0.0.1:${proxy.port}`, prefix);
      await using victim = openNode("memory:", { prefix, ...LEASES }, store);
      await using other = openNode(server.url, { prefix });
      await coherent(victim, other);
      const row = new Row("old");
      await holdInMemory([victim, other], "k", row.load);

      if (returns === "resumes") proxy.hang();
      else proxy.strand();
      const hungAtMs = performance.now();
      row.value = "new";
      assertEquals(await other.cache.delete("k"), "applied");
      const observed = await observe(victim, row, hungAtMs + 2 * MEMORY_LEASE_MS);

      const late = observed.filter(({ atMs }) => atMs >= hungAtMs + MEMORY_LEASE_MS);
      assertGreater(late.length, 10);
      const old = observed.filter(({ value }) => value === "old");
      // Not a promise, but what makes this test one: memory did answer, and did so until it expired.
      assertGreater(old.length, 0, "memory never answered");
      const lastOldMs = Math.max(...old.map(({ atMs }) => atMs)) - hungAtMs;
      assert(lastOldMs < MEMORY_LEASE_MS, `memory answered ${lastOldMs} ms after the hang`);

      if (returns === "resumes") {
        assertEquals(new Set(late.map(({ source }) => source)), new Set(["redis"]));
        proxy.pass();
      }
      await coherent(victim);
      assertEquals((await victim.cache.getOrLoad("k", row.load)).value(), "new");
      await holdInMemory([victim], "k", row.load);
      assertEquals((await victim.cache.getOrLoad("k", row.load)).value(), "new");
      assertGreater(victim.cache.stats().feedDrops, 0);
      // And it is announced again: the next delete reaches memory.
      row.value = "newer";
      await other.cache.delete("k");
      await eventually(async () =>
        assertEquals((await victim.cache.getOrLoad("k", row.load)).value(), "newer")
      );
    });
  }
});

describe("A change in Redis, whoever made it, reaches the memory of every instance", () => {
  let server: RedisServer;

  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(() => server[Symbol.asyncDispose]());

  /** Holds a key in the memory of two nodes, changes Redis, and waits until both let go of it. */
  async function assertReaches(
    change: (redisKey: string, holdAgain: () => Promise<void>) => Promise<unknown>,
    { readsMax = 2 } = {},
  ): Promise<void> {
    const prefix = freshPrefix();
    const nodes = await openNodes(server, 2, { prefix });
    try {
      const row = new Row("old");
      await holdInMemory(nodes, "k", row.load);
      const holdAgain = async () => {
        await eventually(() => assertEquals(nodes.map(entriesOf), [0, 0]));
        await holdInMemory(nodes, "k", row.load);
      };
      row.value = "new";
      await change(`${prefix}:1:{k}`, holdAgain);
      await eventually(() => assertEquals(nodes.map(entriesOf), [0, 0]));
      for (const { cache } of nodes) {
        assertEquals((await cache.getOrLoad("k", row.load)).value(), "new");
        assertEquals(cache.stats().feedDrops, 0);
      }
      assert(row.reads <= readsMax, `${row.reads} reads`);
    } finally {
      await closeAll(nodes);
    }
  }

  it("redis-cli DEL", () => assertReaches((key) => server.cli("DEL", key)));

  for (const flush of ["FLUSHDB", "FLUSHALL"]) {
    // Each node makes sure that it is still the same server, and loads meanwhile.
    it(flush, () => assertReaches(() => server.cli(flush), { readsMax: 3 }));
  }

  it("expiry", () =>
    assertReaches(async (key, holdAgain) => {
      // PEXPIRE is a change and announced as one, so what is announced later is the expiry itself.
      await server.cli("PEXPIRE", key, "400");
      await holdAgain();
    }));

  it("eviction", () =>
    assertReaches(async () => {
      await server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-random");
      await server.cli("CONFIG", "SET", "maxmemory", "1");
      await eventually(async () => assertEquals(await server.cli("DBSIZE"), "0"));
      await server.cli("CONFIG", "SET", "maxmemory", "0");
      assertGreater(Number(/evicted_keys:(\d+)/.exec(await server.cli("INFO", "stats"))?.[1]), 0);
    }));

  it("deleting the root tag voids every entry", async () => {
    const prefix = freshPrefix();
    const nodes = await openNodes(server, 2, { prefix });
    try {
      const row = new Row("old");
      await holdInMemory(nodes, "k", row.load);
      row.value = "new";
      await server.cli("DEL", `${prefix}:1:{*}:tag`);
      for (const { cache } of nodes) {
        await eventually(async () =>
          assertEquals((await cache.getOrLoad("k", row.load)).value(), "new")
        );
      }
    } finally {
      await closeAll(nodes);
    }
  });
});

describe("Connections that are ended soon after they are made", () => {
  for (const type of ["pubsub", "normal"]) {
    it(`are made again more and more seldom: ${type}`, async () => {
      using time = ownTime();
      await using server = await startRedis();
      await using node = openNode(server.url, { prefix: freshPrefix() });
      await coherent(node);
      const startedAtMs = time.now();
      for (let ended = 0; ended < 10;) {
        if (await server.cli("CLIENT", "KILL", "TYPE", type) !== "0") ended++;
      }
      assertGreater(time.now() - startedAtMs, 1_100); // nine delays that do not grow are 450 ms
      await coherent(node);
    });
  }
});
