import { assert, assertEquals, assertGreater, assertNotEquals } from "@std/assert";
import { afterAll, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { setTimeout as delay } from "node:timers/promises";
import { eventually } from "../../tools/servers/eventually.ts";
import { read } from "../../tests/support/load.ts";
import { startRedisCluster } from "../../tools/servers/redis_cluster.ts";
import { startRedisRing } from "../../tools/servers/redis_ring.ts";
import { startRedisSentinel } from "../../tools/servers/redis_sentinel.ts";
import { createSeededDatabase } from "../../tests/support/seeded_database.ts";
import { cacheInUse, type Service, startService } from "../../tools/servers/service.ts";
import type { TestDatabase } from "../../tests/support/test_database.ts";

const USERS = 40;
const IDS = Array.from({ length: USERS }, (_, at) => at + 1);

/** Longest time that a service may be without its cache after a server was replaced. */
const BACK = { deadlineMs: 20_000 };

describe("the service on several Redis servers", () => {
  let database: TestDatabase;
  let prefix: string;

  beforeAll(async () => {
    database = await createSeededDatabase(USERS);
  });
  afterAll(async () => await database[Symbol.asyncDispose]());
  beforeEach(() => {
    prefix = `t${crypto.randomUUID().slice(0, 8)}`;
  });

  it("on Sentinel answers every request while the primary is replaced, then from the cache", async () => {
    await using topology = await startRedisSentinel();
    await using service = await start(topology.serviceUrl, [
      ...topology.servers,
      ...topology.sentinels,
    ]);
    const killed = await topology.primary();
    await killed.kill();
    await servesUntil(service, () => topology.primaryAfter(killed));
    await usesCacheAgain(service);
  });

  it("on a cluster answers every request while a primary is replaced, then from the cache", async () => {
    await using cluster = await startRedisCluster();
    await using service = await start(cluster.serviceUrl, cluster.servers);
    const slot = await cluster.slotOf(`${prefix}:1:{users:1}`);
    const killed = await cluster.ownerOfSlot(slot);
    await killed.kill();
    await servesUntil(service, () => cluster.successorOf(killed, slot));
    await usesCacheAgain(service);
  });

  it("on a ring answers every request without a server, and from the others' memory or Redis", async () => {
    await using ring = await startRedisRing();
    await using service = await start(ring.serviceUrl);
    for (const id of [...IDS, ...IDS]) await user(service, id);
    const [killed] = ring.servers;
    await killed?.kill();
    await servesUntil(service, () => delay(300));
    const sources = await Promise.all(IDS.map(async (id) => (await user(service, id)).source));
    assertGreater(sources.filter((source) => source === "cache").length, USERS / 3);
    assertGreater(sources.filter((source) => source === "database").length, 0);
    await killed?.start();
    await usesCacheAgain(service);
  });

  it("a ring that gains a server and loses it again answers nothing from before", async () => {
    await using ring = await startRedisRing();
    const three = ring.serviceUrl;
    await inService(three, async (service) => {
      for (const id of [...IDS, ...IDS]) await user(service, id);
    });
    await ring.add();
    await inService(ring.serviceUrl, async (service) => {
      for (const id of IDS) await rename(service, id, `With four ${id}`);
      for (const id of IDS) assertEquals((await user(service, id)).name, `With four ${id}`);
    });
    await inService(three, async (service) => {
      for (const id of IDS) assertEquals((await user(service, id)).name, `With four ${id}`);
    });
  });

  it("instances with the old and the new ring see each other's writes", async () => {
    await using ring = await startRedisRing();
    await using before = await start(ring.serviceUrl);
    await ring.add();
    await using after = await start(ring.serviceUrl);
    for (const [writer, reader] of [[before, after], [after, before]] as const) {
      for (const id of IDS) await Promise.all([user(writer, id), user(reader, id)]);
      const name = `Written at ${writer.port}`;
      for (const id of IDS) await rename(writer, id, name);
      for (const id of IDS) assertEquals((await user(writer, id)).name, name);
      await eventually(async () => {
        for (const id of IDS) assertEquals((await user(reader, id)).name, name);
      }, { deadlineMs: 3_000 });
    }
  });

  it("says once which address it may not connect to, and goes on", async () => {
    await using cluster = await startRedisCluster();
    const [seed, ...others] = cluster.servers;
    assert(seed !== undefined);
    const user = new URL(seed.serviceUrl);
    const url = `redis-cluster://${user.username}:${user.password}@127.0.0.1:${seed.port}`;
    await using service = await startService({ env: envFor(url, [seed]) });
    const refused = () =>
      [...service.log.matchAll(
        /Cannot connect to 127\.0\.0\.1:(\d+): the permissions do not list/g,
      )]
        .map(([, port]) => Number(port));
    await eventually(() => assertGreater(refused().length, 0));
    await servesUntil(service, () => delay(3_000));
    assertEquals(refused().length, new Set(refused()).size, service.log);
    const ports = others.map(({ port }) => port);
    assertEquals(refused().filter((port) => !ports.includes(port)), []);
    assert(service.log.includes("add it to REDIS_NODES"), service.log);
  });

  function envFor(
    url: string,
    nodes: readonly { readonly port: number }[],
  ): Record<string, string> {
    return {
      REDIS_URL: url,
      REDIS_NODES: nodes.map(({ port }) => `127.0.0.1:${port}`).join(),
      DATABASE_URL: database.url,
      CACHE_PREFIX: prefix,
    };
  }

  async function start(
    url: string,
    nodes: readonly { readonly port: number }[] = [],
  ): Promise<Service> {
    const service = await startService({ env: envFor(url, nodes) });
    try {
      await cacheInUse(service);
    } catch (error) {
      await service[Symbol.asyncDispose]();
      throw error;
    }
    return service;
  }

  async function inService(url: string, run: (service: Service) => Promise<void>): Promise<void> {
    await using service = await start(url);
    await run(service);
    assertEquals(await service.stop(), 0, service.log);
  }
});

/** Reads and writes until `done` resolves. Every request must be answered. */
async function servesUntil(service: Service, done: () => Promise<unknown>): Promise<void> {
  let over = false;
  const ending = done().finally(() => over = true);
  for (let turn = 0; !over || turn < USERS; turn++) {
    const id = 1 + turn % USERS;
    const name = `Turn ${turn}`;
    if (turn % 5 === 0) await rename(service, id, name);
    const found = await user(service, id);
    if (turn % 5 === 0) assertEquals(found.name, name);
  }
  await ending;
}

async function usesCacheAgain(service: Service): Promise<void> {
  await eventually(async () => {
    for (const id of IDS) assertNotEquals((await user(service, id)).source, "database");
  }, BACK);
}

async function user(service: Service, id: number): Promise<{ source: string; name: string }> {
  const answer = await read(() => service.fetch(`/users/${id}`));
  assertEquals(answer.status, 200, answer.text);
  const { source, data } = JSON.parse(answer.text);
  return { source, name: data.name };
}

async function rename(service: Service, id: number, name: string): Promise<void> {
  const answer = await read(() =>
    service.fetch(`/users/${id}`, {
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name, email: `user${id}@example.com` }),
    })
  );
  assertEquals(answer.status, 200, answer.text);
}
