/**
 * The service's permissions as Deno flags: connect to its servers, listen, and read its own variables. Nothing
 * else, whatever a dependency tries.
 *
 * @module
 */
import { parseTopology, type ServerAddress } from "../cache/mod.ts";
import { parsePostgresUrl } from "../db/postgres_url.ts";
import { type Config, VARIABLE_NAMES } from "../server/config.ts";

const POSTGRES_PORT = 5432;

/**
 * The addresses that the service may open: the one it listens at, every configured Redis, those that Sentinels
 * or a cluster have `announced`, and Postgres. The host is written as in the configuration or the announcement,
 * because Deno compares before it resolves.
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
 * `--no-remote`, because Deno lets a program import code from some public hosts without asking. `--ignore-env`
 * without names makes every other variable read as absent. Otherwise ioredis, whose debug module lists the
 * environment on import, would end the process.
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
    // Needed for sharing a port. It is not a permission, but makes the option available.
    ...(config.workers > 1 ? ["--unstable-net"] : []),
  ];
}

/**
 * As {@linkcode permissionFlags}, and only code that the lock file names and the cache contains: a service that
 * starts must not download any.
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

/** The files of certificates and secrets, if any. */
function readFlags({ cache, database, secretFiles }: Config): string[] {
  const files = [cache.caFile, database.caFile, ...Object.values(secretFiles)]
    .filter((path) => path !== undefined);
  return files.length === 0 ? [] : [`--allow-read=${[...new Set(files)].join(",")}`];
}

function bracketed(host: string): string {
  return host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
}
