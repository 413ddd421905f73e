import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import { type Config, parseConfig, VARIABLE_NAMES } from "../../server/config.ts";
import { netAddresses, permissionFlags, productionFlags } from "../../tools/permissions.ts";

const probe = fileURLToPath(new URL("./_permission_probe.ts", import.meta.url));

function addressesFor(env: Record<string, string>): string[] {
  return netAddresses(parseConfig(env));
}

async function runProbe(
  flags: readonly string[],
  targets: { allowed: number; forbidden: number },
): Promise<Record<string, string>> {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", ...flags, probe, JSON.stringify(targets)],
    clearEnv: true,
    env: { ...denoEnvironment(), PROBE_SECRET: "p4ss", CACHE_PREFIX: "probe" },
  }).output();
  const text = new TextDecoder();
  assert(stdout.length > 0, text.decode(stderr));
  return JSON.parse(text.decode(stdout));
}

/** What Deno itself needs of the environment to find its cache. */
function denoEnvironment(): Record<string, string> {
  const names = ["PATH", "HOME", "DENO_DIR", "XDG_CACHE_HOME", "TMPDIR"];
  return Object.fromEntries(names.flatMap((name) => {
    const value = Deno.env.get(name);
    return value === undefined ? [] : [[name, value]];
  }));
}

/** Accepts and drops connections, so that a refusal can only come from Deno. */
function acceptAll(): Deno.Listener & { readonly port: number; accepted: number } {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const server = Object.assign(listener, { port: listener.addr.port, accepted: 0 });
  (async () => {
    for await (const connection of listener) {
      server.accepted++;
      connection.close();
    }
  })();
  return server;
}

describe("netAddresses()", () => {
  it("lists the listening address, Redis and Postgres, and nothing else", () => {
    assertEquals(addressesFor({}), ["127.0.0.1:3000", "127.0.0.1:6379", "127.0.0.1:5432"]);
  });

  it("fills in the default ports", () => {
    assertEquals(
      addressesFor({ REDIS_URL: "rediss://user:pw@r", DATABASE_URL: "postgresql://u:p@d/x" }),
      ["127.0.0.1:3000", "r:6379", "d:5432"],
    );
  });

  it("keeps given ports", () => {
    assertEquals(
      addressesFor({ PORT: "80", REDIS_URL: "redis://r:1/0", DATABASE_URL: "postgres://d:2/x" }),
      ["127.0.0.1:80", "r:1", "d:2"],
    );
  });

  it("puts IPv6 addresses in brackets", () => {
    assertEquals(
      addressesFor({ HOST: "::", REDIS_URL: "redis://[::1]", DATABASE_URL: "postgres://[::1]/x" }),
      ["[::]:3000", "[::1]:6379", "[::1]:5432"],
    );
  });

  it("lists every server of Postgres that a URL names", () => {
    const DATABASE_URL = "postgres://u:p@h1:5433,[::1],h3/x?target_session_attrs=read-write";
    assertEquals(addressesFor({ DATABASE_URL }).slice(2), ["h1:5433", "[::1]:5432", "h3:5432"]);
  });

  it("lists every server of a URL that names several, and those of REDIS_NODES", () => {
    for (
      const [url, redis] of [
        ["redis-sentinel://me:pw@s1,s2:26380/primary", ["s1:26379", "s2:26380"]],
        ["redis-cluster://10.0.0.1:7000,[::1]:7001", ["10.0.0.1:7000", "[::1]:7001"]],
        ["redis-ring://a,b:2/1", ["a:6379", "b:2"]],
      ] as const
    ) {
      assertEquals(addressesFor({ REDIS_URL: url, REDIS_NODES: "n:7002,[::2]:7003" }), [
        "127.0.0.1:3000",
        ...redis,
        "n:7002",
        "[::2]:7003",
        "127.0.0.1:5432",
      ]);
    }
  });

  it("lists what is announced, each address once", () => {
    const config = parseConfig({ REDIS_URL: "redis-cluster://a:1,b:2" });
    const announced = [{ host: "b", port: 2 }, { host: "::3", port: 3 }, { host: "::3", port: 3 }];
    assertEquals(netAddresses(config, announced), [
      "127.0.0.1:3000",
      "a:1",
      "b:2",
      "[::3]:3",
      "127.0.0.1:5432",
    ]);
  });

  it("leaves Redis out in memory-only mode", () => {
    assertEquals(addressesFor({ REDIS_URL: "memory:" }), ["127.0.0.1:3000", "127.0.0.1:5432"]);
  });
});

describe("permissionFlags()", () => {
  it("names every variable and hides the rest", () => {
    const flags = permissionFlags(parseConfig({}));
    assertEquals(flags, [
      "--no-prompt",
      "--no-remote",
      "--allow-net=127.0.0.1:3000,127.0.0.1:6379,127.0.0.1:5432",
      `--allow-env=${VARIABLE_NAMES.join(",")}`,
      "--ignore-env",
    ]);
  });

  it("lets the files of certificates be read, and no others", () => {
    const env = {
      REDIS_URL: "rediss://r",
      REDIS_CA_FILE: "/tls/redis.pem",
      DATABASE_CA_FILE: "/tls/postgres.pem",
    };
    const readable = (given: Record<string, string>) =>
      permissionFlags(parseConfig(given)).filter((flag) => flag.includes("read"));
    assertEquals(readable(env), ["--allow-read=/tls/redis.pem,/tls/postgres.pem"]);
    assertEquals(readable({ ...env, DATABASE_CA_FILE: env.REDIS_CA_FILE }), [
      "--allow-read=/tls/redis.pem",
    ]);
  });

  it("adds what several processes take to share a port, and nothing else", () => {
    assertEquals(permissionFlags(parseConfig({ WORKERS: "2" })), [
      ...permissionFlags(parseConfig({})),
      "--unstable-net",
    ]);
  });

  it("carries no password to the command line", () => {
    const config = parseConfig({
      REDIS_URL: "redis://:p4ss@r",
      DATABASE_URL: "postgres://me:p4ss@d/x",
      ADMIN_TOKEN: "p4ss",
    });
    assert(!productionFlags(config).join(" ").includes("p4ss"));
  });
});

describe("a process with the service's flags", () => {
  it("reaches Redis, Postgres and its own variables, and nothing else", async () => {
    using redis = acceptAll();
    using other = acceptAll();
    const config: Config = parseConfig({ REDIS_URL: `redis://127.0.0.1:${redis.port}` });
    const results = await runProbe(productionFlags(config), {
      allowed: redis.port,
      forbidden: other.port,
    });
    const { allowed, ownEnv, otherEnv, allEnv, ...refused } = results;
    assertEquals({ allowed, ownEnv, otherEnv, allEnv }, {
      allowed: "done: tcp",
      ownEnv: "done: probe",
      otherEnv: "done: undefined",
      allEnv: "done: CACHE_PREFIX",
    });
    for (const [attempt, outcome] of Object.entries(refused)) {
      assertEquals(outcome, "refused", `${attempt}: ${outcome}`);
    }
    assertEquals(other.accepted, 0);
  });

  it("would reach the other address if it were allowed to", async () => {
    using redis = acceptAll();
    using other = acceptAll();
    const results = await runProbe(["--allow-all"], {
      allowed: redis.port,
      forbidden: other.port,
    });
    assertEquals(results.denoConnect, "done: tcp");
    assertEquals(results.nodeConnect, "done: tcp");
    assertEquals(results.otherEnv, "done: p4ss");
    assert(other.accepted >= 2);
  });
});
