/**
 * What the service may do, as Deno's flags: talk to its servers, listen, and read its own variables.
 * Nothing else, whatever a dependency tries.
 *
 * @module
 */
import { parseTopology, type ServerAddress } from "../cache/mod.ts";
import { parsePostgresUrl } from "../db/postgres_url.ts";
import { type Config, VARIABLE_NAMES } from "../server/config.ts";

const POSTGRES_PORT = 5432;

/**
 * The addresses the service may open: the one it listens at, every Redis that is configured, those that
 * Sentinels or a cluster have `announced`, and Postgres. An address is the host as the configuration or
 * the announcement writes it, because Deno compares before it resolves.
 */
export function netAddresses(config: Config, announced: readonly ServerAddress[] = []): string[] {
  const topology = parseTopology(config.cache.url);
  const addresses = [
    { host: config.http.hostname, port: config.http.port },
    ...(topology.kind === "memory" ? [] : topology.servers),
    ...config.redisNodes,
    ...announced,
    ...postgresAddresses(config.database.url),
    ...(config.changes.databaseUrl === undefined
      ? []
      : postgresAddresses(config.changes.databaseUrl)),
  ];
  return [...new Set(addresses.map(({ host, port }) => `${bracketed(host)}:${port}`))];
}

/**
 * The permission flags of `deno run` for `main.ts`.
 *
 * `--no-remote`, because Deno lets a program import code from some public hosts without being asked.
 * The bare `--ignore-env` makes every other variable read as absent. Without it ioredis, whose debug
 * module lists the environment on import, ends the process.
 */
export function permissionFlags(
  config: Config,
  announced: readonly ServerAddress[] = [],
): string[] {
  return [
    "--no-prompt",
    "--no-remote",
    `--allow-net=${netAddresses(config, announced).join(",")}`,
    ...readFlags(config),
    `--allow-env=${VARIABLE_NAMES.join(",")}`,
    "--ignore-env",
    // What sharing a port takes. It is no permission: it makes the option of that name available.
    ...(config.workers > 1 ? ["--unstable-net"] : []),
  ];
}

/**
 * As {@linkcode permissionFlags}, and no code but what the lock file names and the cache holds: a
 * service that starts must not fetch any.
 */
export function productionFlags(
  config: Config,
  announced: readonly ServerAddress[] = [],
): string[] {
  return ["--frozen", "--cached-only", ...permissionFlags(config, announced)];
}

function postgresAddresses(url: string): ServerAddress[] {
  return parsePostgresUrl(url).urls.map(({ hostname, port }) => ({
    host: hostname,
    port: port === "" ? POSTGRES_PORT : Number(port),
  }));
}

/** The files of certificates and secrets, where there are any. */
function readFlags({ cache, database, secretFiles }: Config): string[] {
  const files = [cache.caFile, database.caFile, ...Object.values(secretFiles)]
    .filter((path) => path !== undefined);
  return files.length === 0 ? [] : [`--allow-read=${[...new Set(files)].join(",")}`];
}

function bracketed(host: string): string {
  return host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
}
