import { assert, assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { z } from "zod";
import { parseTopology } from "../../cache/mod.ts";
import { parseConfig, VARIABLE_NAMES } from "../../server/config.ts";
import { productionFlags } from "../../tools/permissions.ts";
import { lastingPort } from "../../tools/servers/free_port.ts";
import { type RedisServer, startRedis } from "../../tools/servers/redis_server.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

const Service = z.looseObject({
  image: z.string(),
  command: z.array(z.string()).default([]),
  environment: z.record(z.string(), z.string()).default({}),
  ports: z.array(z.string()).default([]),
  networks: z.union([
    z.array(z.string()),
    z.record(z.string(), z.object({ ipv4_address: z.string() })),
  ]).optional(),
  depends_on: z.record(z.string(), z.object({ condition: z.string() })).default({}),
});
type Service = z.infer<typeof Service>;

const Compose = z.object({
  services: z.record(z.string(), Service),
  networks: z.object({
    servers: z.object({ ipam: z.object({ config: z.tuple([z.object({ subnet: z.string() })]) }) }),
  }).optional(),
  volumes: z.record(z.string(), z.null()),
});

async function read(name: string): Promise<z.infer<typeof Compose>> {
  return Compose.parse(parse(await Deno.readTextFile(root + name), { merge: true }));
}

const { services, networks, volumes } = await read("docker-compose.cluster.yml");
const { services: single } = await read("docker-compose.yml");
const nodes = Object.entries(services).filter(([name]) => name.startsWith("redis-"));

function serviceOf(name: string, of: typeof services = services): Service {
  const found = of[name];
  assert(found !== undefined, `there is no service ${name}`);
  return found;
}

/** The variables of the app, as they are where nothing is set. */
function appConfig(): ReturnType<typeof parseConfig> {
  return parseConfig(Object.fromEntries(
    Object.entries(serviceOf("app").environment).map(([name, value]) => [
      name,
      value.replaceAll(/\$\{\w+:-([^}]*)\}/g, "$1"),
    ]),
  ));
}

function addressOf({ networks }: Service): string {
  assert(networks !== undefined && !Array.isArray(networks));
  return networks.servers?.ipv4_address ?? "";
}

describe("docker-compose.cluster.yml", () => {
  it("has six nodes at the addresses that REDIS_URL names", () => {
    const topology = parseTopology(appConfig().cache.url);
    assert(topology.kind === "cluster");
    assertEquals(
      topology.servers,
      nodes.map(([, node]) => ({ host: addressOf(node), port: 6_379 })),
    );
    assertEquals(nodes.length, 6);
    const subnet = networks?.servers.ipam.config[0].subnet ?? "";
    for (const { host } of topology.servers) {
      assertEquals(`${host.replace(/\.\d+$/, "")}.0/24`, subnet);
    }
  });

  it("runs the service as `deno task start` would", () => {
    const { command, environment } = serviceOf("app");
    assertEquals(command, ["run", ...productionFlags(appConfig()), "main.ts"]);
    assertEquals(Object.keys(environment).filter((name) => !VARIABLE_NAMES.includes(name)), []);
  });

  it("differs from docker-compose.yml in Redis alone", () => {
    for (const name of ["seed", "postgres"]) {
      assertEquals({ ...serviceOf(name), networks: undefined }, {
        ...serviceOf(name, single),
        networks: undefined,
      });
    }
    const own = { command: [], environment: {}, depends_on: {}, networks: undefined };
    assertEquals({ ...serviceOf("app"), ...own }, { ...serviceOf("app", single), ...own });
    const { REDIS_URL: _own, ...shared } = serviceOf("app").environment;
    const { REDIS_URL: _other, ...others } = serviceOf("app", single).environment;
    assertEquals(shared, others);
  });

  it("starts the service once the nodes are a cluster", () => {
    const done = { condition: "service_completed_successfully" };
    const healthy = { condition: "service_healthy" };
    assertEquals(serviceOf("app").depends_on, { cluster: done, postgres: healthy, seed: done });
    assertEquals(
      serviceOf("cluster").depends_on,
      Object.fromEntries(nodes.map(([name]) => [name, healthy])),
    );
  });

  it("publishes no node, takes every privilege away, and keeps all data in volumes", () => {
    for (const [name, service] of Object.entries(services)) {
      assertEquals([service.read_only, service.cap_drop, service.security_opt], [
        true,
        ["ALL"],
        ["no-new-privileges:true"],
      ], name);
    }
    for (const [name, node] of nodes) {
      assertEquals([node.ports, node.volumes], [[], [`${name}:/data`]]);
    }
    assertEquals(Object.keys(volumes), [...nodes.map(([name]) => name), "postgres"]);
  });
});

describe("the nodes of docker-compose.cluster.yml", () => {
  const servers: RedisServer[] = [];

  beforeAll(async () => {
    for (const [, { command: [, ...args] }] of nodes) {
      const own = ["--cluster-port", `${lastingPort()}`];
      servers.push(await startRedis({ port: lastingPort(), args: [...args, ...own] }));
    }
  });
  afterAll(async () => {
    for (const server of servers) await server[Symbol.asyncDispose]();
  });

  it("become a cluster, which running it again leaves as it is", async () => {
    await create();
    const before = await rolesOf();
    assertEquals(before.map(([role]) => role).toSorted(), [
      ...["master", "master", "master"],
      ...["slave", "slave", "slave"],
    ]);
    await servers[0]?.cli("-c", "SET", "a", "1");
    await create();
    assertEquals(await rolesOf(), before);
    assertEquals(await servers[0]?.cli("-c", "GET", "a"), "1");
  });

  /** Runs the command of `cluster`, with the addresses of these servers. */
  async function create(): Promise<void> {
    const [shell = "", flag = "", script = ""] = serviceOf("cluster").command;
    const here = nodes.reduce(
      (text, [, node], at) =>
        text.replaceAll(`${addressOf(node)}:6379`, `127.0.0.1:${servers[at]?.port}`).replaceAll(
          `-h ${addressOf(node)} -p 6379`,
          `-p ${servers[at]?.port}`,
        ),
      script,
    );
    const { success, stdout, stderr } = await new Deno.Command(shell, {
      args: [flag, here],
      signal: AbortSignal.timeout(60_000),
    }).output();
    assert(success, new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr));
  }

  async function rolesOf(): Promise<[role: string, id: string][]> {
    return await Promise.all(servers.map(async (server): Promise<[string, string]> => [
      (await server.cli("ROLE")).split("\n")[0] ?? "",
      await server.cli("CLUSTER", "MYID"),
    ]));
  }
});
