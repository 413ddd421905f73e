/**
 * The configuration: read from the environment, checked once, and frozen.
 *
 * Only entry points and tests import this. Other code gets its settings as arguments.
 *
 * @module
 */
import { z } from "zod";
import {
  addresses,
  filePath,
  integer,
  isOrigin,
  listOf,
  oneOf,
  postgresUrl,
  ratio,
  redisUrl,
} from "./_values.ts";
import type { CacheOptions, ServerAddress } from "../cache/mod.ts";
import type { PostgresChangesOptions } from "../changes/mod.ts";
import type { DatabaseOptions } from "../db/database.ts";
import { changePostgresUrl, parsePostgresUrl } from "../db/postgres_url.ts";

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const TTL_MS_MAX = 30 * DAY_MS;
/** Shortest time that applied changes are kept, however short entries live: other processes may not have read them. */
const REPLAY_WINDOW_MS_MIN = 5 * MINUTE_MS;
const TIMEOUT_MS_MAX = 10 * MINUTE_MS;
const MEMORY_BYTES_MAX = 64 * 1024 ** 3;
const DATABASE_POOL_LIMIT = 1_000;
const CACHE_VERSION_MAX = 1_000_000_000;
const WARM_MAX = 1_000;
const ADMIN_TOKENS_MAX = 10;
const RATE_LIMIT_MAX = 1_000_000;
const TRUSTED_PROXIES_MAX = 10;
const CORS_ORIGINS_MAX = 100;
const WORKERS_MAX = 64;
const DATABASE_URL_DEFAULT = "postgres://postgres:secret@127.0.0.1:5432/testdb";
/** The recommended maximum of nodes of a cluster. */
const REDIS_NODES_MAX = 1_000;

/** Settings of the HTTP server. */
export interface HttpConfig {
  /** Address to listen at. */
  readonly hostname: string;
  /** Port to listen at. 0: any free one. */
  readonly port: number;
  /** Each permits writes, `/cache/*` and `/metrics`. Empty: see `adminOpen`. */
  readonly adminTokens: readonly string[];
  /** Access to them if there is no token. */
  readonly adminOpen: "off" | "loopback" | "on";
  /** Requests per minute that a client may send to them. 0: unlimited. */
  readonly adminRateLimit: number;
  /** Requests per minute that a client may send in all. 0: unlimited. */
  readonly clientRateLimit: number;
  /** Number of proxies in front of the service that add to `X-Forwarded-For` or `Forwarded`. */
  readonly trustedProxies: number;
  /** Origins whose pages may read answers. */
  readonly corsOrigins: readonly string[];
  /** Origins whose pages may also write, with a token. */
  readonly corsWriteOrigins: readonly string[];
  /** Time that running requests have to finish after the signal to stop. */
  readonly shutdownTimeoutMs: number;
  /** Fresh life of a page of users. */
  readonly listTtlMs: number;
}

/** Settings of the database. */
export interface DatabaseConfig extends Required<Pick<DatabaseOptions, "url" | "poolMax">> {
  /** A file of PEM certificates, one of which must have signed the server's. */
  readonly caFile?: string;
}

/** Settings of the cache. */
export interface CacheConfig extends Required<Pick<CacheOptions, CacheSetting>> {
  /** A file of PEM certificates, one of which must have signed the servers'. */
  readonly caFile?: string;
  /** The credentials of the Sentinels. Absent: none, or those of the servers if the Sentinels require some. */
  readonly connect?: () => { readonly sentinelPassword: string };
}

/** Options of the cache that have a variable of their own. */
type CacheSetting =
  | ("url" | "enabled" | "prefix" | "version" | "ttlMs" | "graceMs" | "negativeTtlMs")
  | ("jitterRatio" | "memoryBytes" | "memoryLeaseMs" | "commandTimeoutMs");

/** Settings of the changes. */
export interface ChangesConfig
  extends
    Required<Pick<PostgresChangesOptions, "fallback" | "pollMs">>,
    Pick<PostgresChangesOptions, "cacheName"> {
  /**
   * Time for which applied changes are kept, to be replayed after Redis has restarted or failed over: never less
   * than an entry may live.
   */
  readonly replayWindowMs: number;
  /** True to `LISTEN` for notifications; not possible over a pooler or with PGlite. */
  readonly listen: boolean;
  /** The address for `LISTEN` if there is a pooler: Postgres itself. */
  readonly databaseUrl?: string;
}

/** Severities of log records, least severe first. */
export type LogLevel = "trace" | "debug" | "info" | "warning" | "error" | "fatal";

/** All settings of the service. */
export interface Config {
  /** Files of secrets, by the variable whose value they contain. */
  readonly secretFiles: { readonly [Name in Secret]?: string };
  /** Addresses that Sentinels or a cluster may announce, besides those in the Redis URL. */
  readonly redisNodes: readonly ServerAddress[];
  /** The HTTP server. */
  readonly http: HttpConfig;
  readonly database: DatabaseConfig;
  readonly cache: CacheConfig;
  readonly changes: ChangesConfig;
  /** Share of the reads whose answer is afterwards compared with Postgres, 0 to 1. */
  readonly auditRatio: number;
  /** Number of most requested users that are read at the start. */
  readonly warmCount: number;
  /** Number of processes that share the port. */
  readonly workers: number;
  /** True if Deno sends spans to a collector. Deno itself reads the other `OTEL_…` variables. */
  readonly tracing: boolean;
  /** The least severe records that are logged. */
  readonly logLevel: LogLevel;
}

/** The environment is not a valid configuration. The message names every invalid variable. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  /** One line per problem, `NAME: what it must be`. Never the value, which may be a secret. */
  readonly problems: readonly string[];

  /** Use {@linkcode parseConfig} instead: it finds the problems. */
  constructor(problems: readonly string[]) {
    super(`Cannot read the configuration:\n${problems.map((line) => `  ${line}`).join("\n")}`);
    this.problems = problems;
  }
}

/** Variables whose value may be in a file, which the variable with that name and `_FILE` names. */
export const SECRETS = [
  "ADMIN_TOKEN",
  "DATABASE_URL",
  "DATABASE_PASSWORD",
  "REDIS_URL",
  "REDIS_SENTINEL_PASSWORD",
] as const;
type Secret = typeof SECRETS[number];

const PASSWORD = z.string().max(1_024, "must be at most 1024 characters")
  .regex(/^\P{Cc}*$/u, "must be without control characters");

const VARIABLES = {
  HOST: z.union([z.ipv4(), z.ipv6(), z.hostname()], "must be an IP address or a host name")
    .default("127.0.0.1"),
  PORT: integer(0, 65_535).default(3_000),
  WORKERS: integer(1, WORKERS_MAX).default(1),
  ADMIN_TOKEN: listOf(
    ADMIN_TOKENS_MAX,
    // The form of a bearer token (RFC 6750).
    (word) => /^(?=.{1,256}$)[A-Za-z0-9._~+/-]+=*$/.test(word),
    `must be 1 to ${ADMIN_TOKENS_MAX} tokens of at most 256 of A-Z a-z 0-9 . _ ~ + / - (then =)`,
  ),
  ADMIN_TOKEN_FILE: filePath().optional(),
  ADMIN_OPEN: oneOf(["off", "loopback", "on"]).default("off"),
  ADMIN_RATE_LIMIT: integer(0, RATE_LIMIT_MAX).default(6_000),
  CLIENT_RATE_LIMIT: integer(0, RATE_LIMIT_MAX).default(0),
  TRUST_PROXY: integer(0, TRUSTED_PROXIES_MAX).default(0),
  CORS_ORIGINS: listOf(
    CORS_ORIGINS_MAX,
    (word) => word === "*" || isOrigin(word),
    "must be * or origins such as https://app.example, as browsers send them",
  ),
  CORS_WRITE_ORIGINS: listOf(
    CORS_ORIGINS_MAX,
    isOrigin,
    "must be origins such as https://app.example, as browsers send them",
  ),
  SHUTDOWN_TIMEOUT_MS: integer(0, TIMEOUT_MS_MAX).default(10_000),
  OTEL_DENO: oneOf(["true", "1", "false", "0"]).default("false"),
  LOG_LEVEL: oneOf(["trace", "debug", "info", "warning", "error", "fatal"]).default("info"),
  DATABASE_URL: postgresUrl()
    .default(DATABASE_URL_DEFAULT),
  DATABASE_URL_FILE: filePath().optional(),
  DATABASE_PASSWORD: PASSWORD.optional(),
  DATABASE_PASSWORD_FILE: filePath().optional(),
  DATABASE_CA_FILE: filePath().optional(),
  DATABASE_POOL_MAX: integer(1, DATABASE_POOL_LIMIT).default(20),
  REDIS_URL: redisUrl().default("redis://127.0.0.1:6379"),
  REDIS_URL_FILE: filePath().optional(),
  REDIS_SENTINEL_PASSWORD: PASSWORD.optional(),
  REDIS_SENTINEL_PASSWORD_FILE: filePath().optional(),
  REDIS_NODES: addresses(REDIS_NODES_MAX).default([]),
  REDIS_CA_FILE: filePath().optional(),
  REDIS_COMMAND_TIMEOUT_MS: integer(1, TIMEOUT_MS_MAX).default(200),
  CACHE: oneOf(["on", "off"]).default("on"),
  CACHE_PREFIX: z.string().regex(/^[A-Za-z0-9_-]{1,32}$/, "must be 1 to 32 of A-Z a-z 0-9 _ -")
    .default("la"),
  CACHE_VERSION: integer(1, CACHE_VERSION_MAX).default(1),
  CACHE_TTL_MS: integer(1, TTL_MS_MAX).default(300_000),
  CACHE_LIST_TTL_MS: integer(1, TTL_MS_MAX).default(60_000),
  CACHE_GRACE_MS: integer(0, TTL_MS_MAX).default(60_000),
  CACHE_NEGATIVE_TTL_MS: integer(1, TTL_MS_MAX).default(30_000),
  CACHE_JITTER_RATIO: ratio().default(0.1),
  CACHE_MEMORY_BYTES: integer(0, MEMORY_BYTES_MAX).default(64 * 1024 ** 2),
  CACHE_MEMORY_LEASE_MS: integer(10, MINUTE_MS).default(1_000),
  CACHE_FALLBACK: oneOf(["on", "off"]).default("on"),
  CACHE_AUDIT_RATIO: ratio().default(0),
  CACHE_WARM: integer(0, WARM_MAX).default(0),
  CHANGES_POLL_MS: integer(10, MINUTE_MS).default(1_000),
  CHANGES_LISTEN: oneOf(["on", "off"]).default("on"),
  CHANGES_DATABASE_URL: postgresUrl().optional(),
  CHANGES_CACHE_NAME: z.string().regex(
    /^[A-Za-z0-9._:/-]{1,100}$/,
    "must be 1 to 100 of A-Z a-z 0-9 . _ : / -",
  ).optional(),
};

const schema = z.object(VARIABLES);

/** Names of all variables, for `--allow-env`. */
export const VARIABLE_NAMES: readonly string[] = Object.freeze(Object.keys(VARIABLES));

/**
 * Makes the configuration. Absent or empty variables get their default; names that are not in {@linkcode
 * VARIABLE_NAMES} are ignored.
 *
 * @throws {ConfigError} Names all problems at once.
 */
export function parseConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const given = VARIABLE_NAMES.map((name) => [name, env[name]?.trim()]).filter(([, text]) => text);
  const parsed = schema.safeParse(Object.fromEntries(given));
  if (!parsed.success) {
    throw new ConfigError(
      parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`),
    );
  }
  const values = parsed.data;
  const contradictions = contradictionsOf(values);
  if (contradictions.length > 0) throw new ConfigError(contradictions);
  return Object.freeze({
    secretFiles: Object.freeze(Object.fromEntries(
      SECRETS.flatMap((name) => {
        const file = values[`${name}_FILE`];
        return file === undefined ? [] : [[name, file]];
      }),
    )),
    redisNodes: Object.freeze(values.REDIS_NODES),
    http: Object.freeze({
      hostname: values.HOST,
      port: values.PORT,
      adminTokens: Object.freeze(values.ADMIN_TOKEN),
      adminOpen: values.ADMIN_OPEN,
      adminRateLimit: values.ADMIN_RATE_LIMIT,
      clientRateLimit: values.CLIENT_RATE_LIMIT,
      trustedProxies: values.TRUST_PROXY,
      corsOrigins: Object.freeze(values.CORS_ORIGINS),
      corsWriteOrigins: Object.freeze(values.CORS_WRITE_ORIGINS),
      shutdownTimeoutMs: values.SHUTDOWN_TIMEOUT_MS,
      listTtlMs: values.CACHE_LIST_TTL_MS,
    }),
    database: Object.freeze({
      url: withPassword(values.DATABASE_URL, values.DATABASE_PASSWORD),
      poolMax: values.DATABASE_POOL_MAX,
      ...(values.DATABASE_CA_FILE === undefined ? {} : { caFile: values.DATABASE_CA_FILE }),
    }),
    cache: Object.freeze({
      url: values.REDIS_URL,
      enabled: values.CACHE === "on",
      ...(values.REDIS_CA_FILE === undefined ? {} : { caFile: values.REDIS_CA_FILE }),
      ...connectOf(values.REDIS_SENTINEL_PASSWORD),
      prefix: values.CACHE_PREFIX,
      version: values.CACHE_VERSION,
      ttlMs: values.CACHE_TTL_MS,
      graceMs: values.CACHE_GRACE_MS,
      negativeTtlMs: values.CACHE_NEGATIVE_TTL_MS,
      jitterRatio: values.CACHE_JITTER_RATIO,
      memoryBytes: values.CACHE_MEMORY_BYTES,
      memoryLeaseMs: values.CACHE_MEMORY_LEASE_MS,
      commandTimeoutMs: values.REDIS_COMMAND_TIMEOUT_MS,
    }),
    changes: Object.freeze({
      pollMs: values.CHANGES_POLL_MS,
      replayWindowMs: Math.max(REPLAY_WINDOW_MS_MIN, entryLifeMsMax(values)),
      listen: values.CHANGES_LISTEN === "on",
      fallback: values.CACHE_FALLBACK === "on",
      ...(values.CHANGES_DATABASE_URL === undefined
        ? {}
        : { databaseUrl: values.CHANGES_DATABASE_URL }),
      ...(values.CHANGES_CACHE_NAME === undefined ? {} : { cacheName: values.CHANGES_CACHE_NAME }),
    }),
    auditRatio: values.CACHE_AUDIT_RATIO,
    warmCount: values.CACHE_WARM,
    workers: values.WORKERS,
    tracing: /^(true|1)$/.test(values.OTEL_DENO),
    logLevel: values.LOG_LEVEL,
  });
}

/** A separate password may have any character; in a URL some would need escaping. */
function withPassword(url: string, password: string | undefined): string {
  if (password === undefined) return url;
  return changePostgresUrl(url, (complete) => {
    complete.password = encodeURIComponent(password);
  });
}

function connectOf(sentinelPassword: string | undefined): Pick<CacheConfig, "connect"> {
  return sentinelPassword === undefined ? {} : { connect: () => ({ sentinelPassword }) };
}

/** Combinations that are invalid although each value is valid. */
function contradictionsOf(values: z.infer<typeof schema>): string[] {
  const problems: string[] = [];
  if (values.ADMIN_OPEN === "on" && values.ADMIN_TOKEN.length > 0) {
    problems.push(
      "ADMIN_OPEN: must be off where ADMIN_TOKEN is set, which would be asked for all the same",
    );
  }
  // A proxy on this machine uses a loopback name for every client.
  if (values.ADMIN_OPEN === "loopback" && values.TRUST_PROXY > 0) {
    problems.push("ADMIN_OPEN: must not be loopback behind a proxy (TRUST_PROXY)");
  }
  if (values.CORS_WRITE_ORIGINS.length > 0 && values.ADMIN_TOKEN.length === 0) {
    problems.push("CORS_WRITE_ORIGINS: must be absent without ADMIN_TOKEN, which their pages send");
  }
  if (
    values.REDIS_SENTINEL_PASSWORD !== undefined && !/^rediss?-sentinel:/.test(values.REDIS_URL)
  ) {
    problems.push("REDIS_SENTINEL_PASSWORD: must be absent unless REDIS_URL names Sentinels");
  }
  // A CA file without TLS would suggest a protection that is not there.
  if (values.REDIS_CA_FILE !== undefined && !values.REDIS_URL.startsWith("rediss")) {
    problems.push("REDIS_CA_FILE: must be absent unless REDIS_URL begins with rediss");
  }
  if (
    values.DATABASE_CA_FILE !== undefined && /[?&]sslmode=disable(&|$)/.test(values.DATABASE_URL)
  ) {
    problems.push("DATABASE_CA_FILE: must be absent where DATABASE_URL has sslmode=disable");
  }
  const hasPassword = values.DATABASE_URL !== DATABASE_URL_DEFAULT &&
    parsePostgresUrl(values.DATABASE_URL).urls[0].password !== "";
  if (values.DATABASE_PASSWORD !== undefined && hasPassword) {
    problems.push("DATABASE_PASSWORD: must be absent where DATABASE_URL has a password");
  }
  if (values.WORKERS > 1 && values.REDIS_URL === "memory:") {
    problems.push(
      "WORKERS: must be 1 with REDIS_URL=memory:, a cache that each process has to itself: " +
        "after a write through one, the others would go on serving what was there before",
    );
  }
  if (values.WORKERS > 1 && values.PORT === 0) {
    problems.push("WORKERS: must be 1 with PORT=0, which gives each process another port");
  }
  return problems;
}

/**
 * The longest life of an entry in Redis. A Redis that restarts with old data contains nothing older, so
 * replaying the changes of this time invalidates everything outdated in it.
 */
function entryLifeMsMax(values: z.infer<typeof schema>): number {
  const ttlMs = Math.max(values.CACHE_TTL_MS, values.CACHE_LIST_TTL_MS);
  return Math.ceil(ttlMs * (1 + values.CACHE_JITTER_RATIO)) + values.CACHE_GRACE_MS;
}

/**
 * Reads the variables of {@linkcode VARIABLE_NAMES} one by one, because the process may have no permission for
 * the whole environment.
 */
export function readEnvironment(): Record<string, string | undefined> {
  return Object.fromEntries(VARIABLE_NAMES.map((name) => [name, Deno.env.get(name)]));
}

/** True if a server that listens there can be reached only from its own machine. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "::1" || /^127(\.\d{1,3}){3}$/.test(hostname);
}
