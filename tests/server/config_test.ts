import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  type Config,
  ConfigError,
  isLoopback,
  parseConfig,
  readEnvironment,
  VARIABLE_NAMES,
} from "../../server/config.ts";

const DEFAULTS: Config = {
  secretFiles: {},
  redisNodes: [],
  http: {
    hostname: "127.0.0.1",
    port: 3_000,
    adminTokens: [],
    adminOpen: "off",
    adminRateLimit: 6_000,
    clientRateLimit: 0,
    trustedProxies: 0,
    corsOrigins: [],
    corsWriteOrigins: [],
    shutdownTimeoutMs: 10_000,
    listTtlMs: 60_000,
  },
  database: { url: "postgres://postgres:secret@127.0.0.1:5432/testdb", poolMax: 20 },
  cache: {
    url: "redis://127.0.0.1:6379",
    enabled: true,
    prefix: "la",
    version: 1,
    ttlMs: 300_000,
    graceMs: 60_000,
    negativeTtlMs: 30_000,
    jitterRatio: 0.1,
    memoryBytes: 67_108_864,
    memoryLeaseMs: 1_000,
    commandTimeoutMs: 200,
  },
  changes: { pollMs: 1_000, replayWindowMs: 390_000, fallback: true, listen: true },
  auditRatio: 0,
  warmCount: 0,
  workers: 1,
  tracing: false,
  logLevel: "info",
};

const NOT_WHOLE_NUMBERS = ["-1", "1.5", "abc", "1e3", "0x10", "99999999999999999", "NaN"];

const REFUSED: Readonly<Record<string, readonly string[]>> = {
  HOST: ["two words", "http://host", "-", "127.0.0.1:80"],
  PORT: [...NOT_WHOLE_NUMBERS, "65536"],
  ADMIN_TOKEN: ["ä", "p@ss", "x".repeat(257), ",", Array(11).fill("x").join()],
  ADMIN_OPEN: ["true", "ON", "1"],
  ADMIN_RATE_LIMIT: [...NOT_WHOLE_NUMBERS, "1000001"],
  CLIENT_RATE_LIMIT: [...NOT_WHOLE_NUMBERS, "1000001"],
  TRUST_PROXY: [...NOT_WHOLE_NUMBERS, "on", "11"],
  CORS_ORIGINS: [
    "app.example",
    "https://app.example/",
    "https://*.app.example",
    "null",
    "ftp://a",
    "https://a:443",
    "http://a:80",
    "https://a:99999",
    "https://A",
  ],
  CORS_WRITE_ORIGINS: ["*", "app.example", "https://app.example/", "null"],
  SHUTDOWN_TIMEOUT_MS: [...NOT_WHOLE_NUMBERS, "600001"],
  OTEL_DENO: ["on", "TRUE"],
  LOG_LEVEL: ["loud", "INFO"],
  DATABASE_URL: [
    "postgres:",
    "mysql://host/db",
    "127.0.0.1:5432",
    "postgres://h1,,h2/db",
    "postgres://h1,h2:0/db",
    "postgres://db/x?sslmode=on",
    "postgres://db/x?target_session_attrs=standby",
    "postgres:///db",
  ],
  DATABASE_CA_FILE: ["a,b", "a\nb"],
  DATABASE_URL_FILE: ["a,b", "a\nb"],
  DATABASE_PASSWORD: ["a\nb", "x".repeat(1_025)],
  DATABASE_PASSWORD_FILE: ["a,b", "a\nb"],
  ADMIN_TOKEN_FILE: ["a,b", "a\nb"],
  REDIS_URL_FILE: ["a,b", "a\nb"],
  REDIS_SENTINEL_PASSWORD: ["a\nb", "x".repeat(1_025)],
  REDIS_SENTINEL_PASSWORD_FILE: ["a,b", "a\nb"],
  DATABASE_POOL_MAX: [...NOT_WHOLE_NUMBERS, "0", "1001"],
  REDIS_URL: [
    "redis:",
    "http://host",
    "memory",
    "memory:x",
    "redis://host:0",
    "redis://h1,h2",
    "redis://:pw@",
    "redis://host/db",
    "redis-sentinel://h1,h2",
    "redis-cluster://h1,,h2",
    "redis-cluster://h1/1",
    "redis-ring://h1,h1",
    "redis-swarm://h1,h2",
  ],
  REDIS_NODES: [
    "host",
    "host:0",
    "host:65536",
    ":6379",
    "a:1,,b:2",
    "redis://host:1",
    "me:pw@host:1",
    "host:1/0",
    Array.from({ length: 1_001 }, (_, at) => `h${at}:1`).join(),
  ],
  REDIS_CA_FILE: ["a,b", "a\nb"],
  REDIS_COMMAND_TIMEOUT_MS: [...NOT_WHOLE_NUMBERS, "0", "600001"],
  CACHE: ["true", "ON", "1"],
  CACHE_PREFIX: ["a b", "{la}", "a:b", "x".repeat(33)],
  CACHE_VERSION: [...NOT_WHOLE_NUMBERS, "0", "1000000001"],
  CACHE_TTL_MS: [...NOT_WHOLE_NUMBERS, "0", "2592000001"],
  CACHE_LIST_TTL_MS: [...NOT_WHOLE_NUMBERS, "0", "2592000001"],
  CACHE_GRACE_MS: [...NOT_WHOLE_NUMBERS, "2592000001"],
  CACHE_NEGATIVE_TTL_MS: [...NOT_WHOLE_NUMBERS, "0", "2592000001"],
  CACHE_JITTER_RATIO: ["-0.1", "1.1", "half", "1."],
  CACHE_MEMORY_BYTES: [...NOT_WHOLE_NUMBERS, "68719476737"],
  CACHE_MEMORY_LEASE_MS: [...NOT_WHOLE_NUMBERS, "9", "60001"],
  CACHE_FALLBACK: ["true", "1", "On"],
  CACHE_AUDIT_RATIO: ["-0.1", "1.1", "half", "1."],
  CACHE_WARM: [...NOT_WHOLE_NUMBERS, "1001"],
  WORKERS: [...NOT_WHOLE_NUMBERS, "0", "65"],
  CHANGES_POLL_MS: [...NOT_WHOLE_NUMBERS, "9", "60001"],
  CHANGES_LISTEN: ["true", "ON", "1"],
  CHANGES_DATABASE_URL: ["mysql://db/x", "postgres://", "nonsense"],
  CHANGES_CACHE_NAME: ["two words", "ä", "x".repeat(101)],
};

function problemsOf(env: Record<string, string>): readonly string[] {
  return assertThrows(() => parseConfig(env), ConfigError).problems;
}

describe("parseConfig()", () => {
  it("gives every default for an empty environment", () => {
    assertEquals(parseConfig({}), DEFAULTS);
  });

  it("takes an empty or blank variable for an absent one", () => {
    const blank = Object.fromEntries(VARIABLE_NAMES.map((name, i) => [name, i % 2 ? "" : "  "]));
    assertEquals(parseConfig(blank), DEFAULTS);
  });

  it("reads every variable", () => {
    const config = parseConfig({
      HOST: "::1",
      PORT: "65535",
      ADMIN_TOKEN: "t0ken, 0ld==",
      ADMIN_TOKEN_FILE: "/run/secrets/token",
      ADMIN_RATE_LIMIT: "0",
      CLIENT_RATE_LIMIT: "60",
      TRUST_PROXY: "2",
      CORS_ORIGINS: "https://app.example http://[::1]:8080",
      CORS_WRITE_ORIGINS: "https://app.example",
      SHUTDOWN_TIMEOUT_MS: "0",
      OTEL_DENO: "true",
      LOG_LEVEL: "trace",
      DATABASE_URL: "postgresql://db.example/app",
      DATABASE_CA_FILE: "/etc/tls/postgres.pem",
      DATABASE_POOL_MAX: "1",
      REDIS_URL: "rediss://cache.example:6380/2",
      REDIS_NODES: "10.0.0.1:7000, [::1]:7001,node-3:7002",
      REDIS_CA_FILE: "tls/redis.pem",
      REDIS_COMMAND_TIMEOUT_MS: "1",
      CACHE: "off",
      CACHE_PREFIX: "app-1_x",
      CACHE_VERSION: "7",
      CACHE_TTL_MS: "1",
      CACHE_LIST_TTL_MS: "2",
      CACHE_GRACE_MS: "0",
      CACHE_NEGATIVE_TTL_MS: "3",
      CACHE_JITTER_RATIO: "0",
      CACHE_MEMORY_BYTES: "0",
      CACHE_MEMORY_LEASE_MS: "10",
      CACHE_FALLBACK: "off",
      CACHE_AUDIT_RATIO: "1",
      CACHE_WARM: "1000",
      WORKERS: "64",
      CHANGES_POLL_MS: "10",
      CHANGES_LISTEN: "off",
      CHANGES_CACHE_NAME: "eu/cache-1",
      CHANGES_DATABASE_URL: "postgres://direct.example/app",
    });
    assertEquals(config, {
      secretFiles: { ADMIN_TOKEN: "/run/secrets/token" },
      redisNodes: [
        { host: "10.0.0.1", port: 7_000 },
        { host: "::1", port: 7_001 },
        { host: "node-3", port: 7_002 },
      ],
      http: {
        hostname: "::1",
        port: 65_535,
        adminTokens: ["t0ken", "0ld=="],
        adminOpen: "off",
        adminRateLimit: 0,
        clientRateLimit: 60,
        trustedProxies: 2,
        corsOrigins: ["https://app.example", "http://[::1]:8080"],
        corsWriteOrigins: ["https://app.example"],
        shutdownTimeoutMs: 0,
        listTtlMs: 2,
      },
      database: {
        url: "postgresql://db.example/app",
        poolMax: 1,
        caFile: "/etc/tls/postgres.pem",
      },
      cache: {
        url: "rediss://cache.example:6380/2",
        enabled: false,
        caFile: "tls/redis.pem",
        prefix: "app-1_x",
        version: 7,
        ttlMs: 1,
        graceMs: 0,
        negativeTtlMs: 3,
        jitterRatio: 0,
        memoryBytes: 0,
        memoryLeaseMs: 10,
        commandTimeoutMs: 1,
      },
      changes: {
        pollMs: 10,
        replayWindowMs: 300_000,
        fallback: false,
        listen: false,
        cacheName: "eu/cache-1",
        databaseUrl: "postgres://direct.example/app",
      },
      auditRatio: 1,
      warmCount: 1_000,
      workers: 64,
      tracing: true,
      logLevel: "trace",
    });
  });

  it("refuses several processes where each would have a cache or a port of its own", () => {
    const [memory, port] = problemsOf({ WORKERS: "2", REDIS_URL: "memory:", PORT: "0" });
    assert(memory?.startsWith("WORKERS: must be 1 with REDIS_URL=memory:"), memory);
    assert(port?.startsWith("WORKERS: must be 1 with PORT=0"), port);
    assertEquals(parseConfig({ WORKERS: "1", REDIS_URL: "memory:", PORT: "0" }).workers, 1);
  });

  it("accepts memory: in place of a Redis", () => {
    assertEquals(parseConfig({ REDIS_URL: "memory:" }).cache.url, "memory:");
  });

  it("accepts every form of Redis", () => {
    for (
      const url of [
        "redis-sentinel://me:pw@h1,h2:26380,h3/primary/2",
        "redis-cluster://h1:7000,h2:7001,[::1]:7002",
        "rediss-ring://:pw@10.0.0.1,10.0.0.2:6380/1",
      ]
    ) assertEquals(parseConfig({ REDIS_URL: url }).cache.url, url);
  });

  it("opens writes to nobody who has no token, wherever it listens, unless it is told to", () => {
    for (
      const [env, open] of [
        [{}, "off"],
        [{ HOST: "0.0.0.0" }, "off"],
        [{ ADMIN_OPEN: "loopback" }, "loopback"],
        // As in Compose: a token that is set is asked for.
        [{ ADMIN_OPEN: "loopback", ADMIN_TOKEN: "t0ken" }, "loopback"],
        [{ HOST: "0.0.0.0", ADMIN_OPEN: "on" }, "on"],
        [{ TRUST_PROXY: "1", ADMIN_OPEN: "on" }, "on"],
      ] as const
    ) assertEquals(parseConfig(env).http.adminOpen, open, JSON.stringify(env));
    for (
      const [env, name] of [
        [{ ADMIN_TOKEN: "t0ken", ADMIN_OPEN: "on" }, "ADMIN_OPEN"],
        [{ TRUST_PROXY: "1", ADMIN_OPEN: "loopback" }, "ADMIN_OPEN"],
        [{ CORS_WRITE_ORIGINS: "https://app.example" }, "CORS_WRITE_ORIGINS"],
        [{ ADMIN_TOKEN: "t0ken", CORS_WRITE_ORIGINS: "*" }, "CORS_WRITE_ORIGINS"],
      ] as const
    ) assertEquals(problemsOf(env).map((problem) => problem.split(":")[0]), [name]);
  });

  it("takes a password apart from the URL, whatever its characters", () => {
    for (const password of ["p@ss/w:rd?#[]%20&", "100%", "ä b+c"]) {
      const { url } = parseConfig({
        DATABASE_URL: "postgres://me@db/x",
        DATABASE_PASSWORD: password,
      }).database;
      assertEquals(decodeURIComponent(new URL(url).password), password);
      assertEquals(new URL(url).hostname, "db");
    }
    const both = { DATABASE_URL: "postgres://me:pw@db/x", DATABASE_PASSWORD: "pw" };
    assert(problemsOf(both)[0]?.startsWith("DATABASE_PASSWORD: must be absent"));
  });

  it("refuses an authority where the connection would not be encrypted", () => {
    for (
      const env of [
        { REDIS_CA_FILE: "ca.pem" },
        { REDIS_CA_FILE: "ca.pem", REDIS_URL: "memory:" },
        { DATABASE_CA_FILE: "ca.pem", DATABASE_URL: "postgres://db/x?sslmode=disable" },
      ]
    ) {
      const [problem, ...more] = problemsOf(env);
      assertEquals(problem?.split(":")[0], Object.keys(env)[0]);
      assertEquals(more, []);
    }
  });

  it("accepts both bounds of a ratio", () => {
    assertEquals(parseConfig({ CACHE_JITTER_RATIO: "1" }).cache.jitterRatio, 1);
    assertEquals(parseConfig({ CACHE_JITTER_RATIO: ".25" }).cache.jitterRatio, 0.25);
  });

  for (const [name, values] of Object.entries(REFUSED)) {
    it(`refuses a ${name} out of its bounds, by name alone`, () => {
      for (const value of values) {
        const problems = problemsOf({ [name]: value });
        assertEquals(problems.length, 1, `${name}=${value}: ${problems.join("; ")}`);
        assert(problems[0]?.startsWith(`${name}: must be `), problems[0]);
      }
    });
  }

  it("has a refused value on file for every variable", () => {
    assertEquals(Object.keys(REFUSED).sort(), [...VARIABLE_NAMES].sort());
  });

  it("reports every problem at once", () => {
    const env = Object.fromEntries(
      Object.entries(REFUSED).map(([name, values]) => [name, values[0] ?? ""]),
    );
    assertEquals(
      problemsOf(env).map((problem) => problem.split(":")[0]).sort(),
      [...VARIABLE_NAMES].sort(),
    );
  });

  it("never repeats a value, which may be a secret in the wrong place", () => {
    const env = Object.fromEntries(VARIABLE_NAMES.map((name) => [name, "p4ssw0rd \u0000"]));
    const error = assertThrows(() => parseConfig(env), ConfigError);
    assertEquals(error.problems.length, VARIABLE_NAMES.length);
    assert(!error.message.includes("p4ssw0rd"), error.message);
    assert(!Deno.inspect(error).includes("p4ssw0rd"));
  });

  it("freezes what it gives", () => {
    const config = parseConfig({});
    for (const part of [config, config.http, config.database, config.cache]) {
      assert(Object.isFrozen(part));
    }
  });

  it("looks at no other variable", () => {
    const seen = new Set<string>();
    parseConfig(
      new Proxy({}, {
        get: (_target, name) => {
          seen.add(String(name));
          return undefined;
        },
      }),
    );
    assertEquals([...seen].sort(), [...VARIABLE_NAMES].sort());
  });
});

describe("readEnvironment()", () => {
  it("gives the listed variables and no others", () => {
    Deno.env.set("CACHE_PREFIX", "from-env");
    try {
      const env = readEnvironment();
      assertEquals(env.CACHE_PREFIX, "from-env");
      assertEquals(Object.keys(env).sort(), [...VARIABLE_NAMES].sort());
    } finally {
      Deno.env.delete("CACHE_PREFIX");
    }
  });
});

describe("isLoopback()", () => {
  it("knows the addresses that only this machine reaches", () => {
    for (const hostname of ["127.0.0.1", "127.8.9.10", "::1", "localhost"]) {
      assert(isLoopback(hostname), hostname);
    }
    for (const hostname of ["0.0.0.0", "::", "10.0.0.1", "127.example", "127.0.0.1.example", "a"]) {
      assert(!isLoopback(hostname), hostname);
    }
  });
});

describe(".env.example", () => {
  const WITHOUT_DEFAULT = new Set([
    "ADMIN_TOKEN",
    "CORS_ORIGINS",
    "CORS_WRITE_ORIGINS",
    "ADMIN_TOKEN_FILE",
    "DATABASE_URL_FILE",
    "DATABASE_PASSWORD",
    "DATABASE_PASSWORD_FILE",
    "REDIS_URL_FILE",
    "CHANGES_CACHE_NAME",
    "CHANGES_DATABASE_URL",
    "DATABASE_CA_FILE",
    "REDIS_CA_FILE",
    "REDIS_NODES",
    "REDIS_SENTINEL_PASSWORD",
    "REDIS_SENTINEL_PASSWORD_FILE",
  ]);
  const lines = Deno.readTextFileSync(new URL("../../.env.example", import.meta.url)).split("\n");
  const values = Object.fromEntries(
    lines.flatMap((line) => {
      const match = line.match(/^#? ?([A-Z][A-Z_]*)=(.*)$/);
      return match === null ? [] : [[match[1], match[2]]];
    }),
  );

  it("lists every variable", () => {
    assertEquals(Object.keys(values).sort(), [...VARIABLE_NAMES].sort());
  });

  it("gives each its default", () => {
    assertEquals(parseConfig(values), DEFAULTS);
    for (const name of VARIABLE_NAMES) {
      assert(WITHOUT_DEFAULT.has(name) || values[name] !== "", `${name} has no value`);
    }
  });
});
