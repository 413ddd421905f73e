import { assert, assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { parseConfig } from "../../server/config.ts";
import { netAddresses } from "../../tools/permissions.ts";
import { announcedNodes } from "../../tools/redis_nodes.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { freePort } from "../../tools/servers/free_port.ts";
import { type RedisCluster, startRedisCluster } from "../../tools/servers/redis_cluster.ts";
import { startRedisSentinel } from "../../tools/servers/redis_sentinel.ts";

/** What the service is let to for a configuration, and what the user is told. */
async function allowedFor(
  env: Record<string, string>,
): Promise<{ addresses: string[]; told: string[] }> {
  const told: string[] = [];
  const config = parseConfig(env);
  const announced = await announcedNodes(config, (line) => void told.push(line));
  const own = ["127.0.0.1:3000", "127.0.0.1:5432"];
  const addresses = netAddresses(config, announced).filter((each) => !own.includes(each));
  return { addresses: addresses.toSorted(), told };
}

function addressesOf(servers: readonly { readonly port: number }[]): string[] {
  return servers.map(({ port }) => `127.0.0.1:${port}`).toSorted();
}

describe("announcedNodes()", () => {
  let cluster: RedisCluster;

  beforeAll(async () => {
    cluster = await startRedisCluster();
  });
  afterAll(() => cluster[Symbol.asyncDispose]());

  it("finds every node of a cluster by one of them, also one that is down", async () => {
    const [seed, down] = cluster.servers;
    await down?.kill();
    await eventually(async () => {
      const slots = await seed?.cli("CLUSTER", "SLOTS") ?? "";
      assert(!slots.split("\n").includes(`${down?.port}`), "the others have not noticed yet");
    });
    const REDIS_URL = `redis-cluster://127.0.0.1:${seed?.port}`;
    assertEquals(await allowedFor({ REDIS_URL }), {
      addresses: addressesOf(cluster.servers),
      told: [],
    });
    await down?.start();
    await cluster.settled();
  });

  it("is content with the seeds that answer", async () => {
    const gone = { port: freePort() };
    const seeds = addressesOf([gone, ...cluster.servers.slice(0, 1)]);
    assertEquals(await allowedFor({ REDIS_URL: `redis-cluster://${seeds.join()}` }), {
      addresses: addressesOf([gone, ...cluster.servers]),
      told: [],
    });
  });

  it("takes REDIS_NODES for the whole truth", async () => {
    const [seed = ""] = addressesOf(cluster.servers);
    const REDIS_NODES = "10.0.0.1:7000,10.0.0.2:7000";
    assertEquals(await allowedFor({ REDIS_URL: `redis-cluster://${seed}`, REDIS_NODES }), {
      addresses: [...REDIS_NODES.split(","), seed].toSorted(),
      told: [],
    });
  });

  it("logs in as the URL says, and needs no more than CLUSTER SLOTS", async () => {
    const [seed] = cluster.servers;
    const rules = ["on", ">p4ss", "resetchannels", "-@all", "+info", "+cluster|slots"];
    await seed?.cli("ACL", "SETUSER", "me", ...rules);
    const REDIS_URL = `redis-cluster://me:p4ss@127.0.0.1:${seed?.port}`;
    // A replica that has replicated nothing yet, or was not heard of for a moment, is not among the slots.
    await eventually(async () => {
      const { addresses, told } = await allowedFor({ REDIS_URL });
      assertEquals([addresses, told], [addressesOf(cluster.servers), []]);
    });
    const wrong = await allowedFor({ REDIS_URL: REDIS_URL.replace("p4ss", "wr0ng") });
    assertEquals([wrong.addresses.length, wrong.told.length], [1, 1]);
    assert(!wrong.told.join().includes("wr0ng"));
  });

  it("finds the servers and the other Sentinels by one Sentinel", async () => {
    await using topology = await startRedisSentinel();
    const [seed] = topology.sentinels;
    const name = new URL(topology.url.replaceAll(/,[^/]*/g, "")).pathname;
    assertEquals(
      await allowedFor({ REDIS_URL: `redis-sentinel://127.0.0.1:${seed?.port}${name}` }),
      {
        addresses: addressesOf([...topology.servers, ...topology.sentinels]),
        told: [],
      },
    );
  });

  it("says so when nobody answers, and lists what the URL names", async () => {
    const servers = [{ port: freePort() }, { port: freePort() }];
    const { addresses, told } = await allowedFor({
      REDIS_URL: `redis-cluster://${addressesOf(servers).join()}`,
    });
    assertEquals(addresses, addressesOf(servers));
    assertEquals(told.length, 1);
    assert(told[0]?.includes("REDIS_NODES"), told[0]);
  });

  it("asks nobody where the URL says it all", async () => {
    const [seed = ""] = addressesOf(cluster.servers);
    for (
      const [REDIS_URL, count] of [[`redis://${seed}`, 1], [`redis-ring://${seed},h2`, 2]] as const
    ) {
      const { addresses, told } = await allowedFor({ REDIS_URL });
      assertEquals([addresses.length, told], [count, []]);
    }
    assertEquals((await allowedFor({ REDIS_URL: "memory:" })).addresses, []);
    assertEquals(
      (await allowedFor({ REDIS_URL: `redis-cluster://${seed}`, CACHE: "off" })).told,
      [],
    );
  });
});
