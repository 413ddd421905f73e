/**
 * What the service may do, as Deno's flags: talk to its two servers, listen, and read its own
 * variables. Nothing else, whatever a dependency tries.
 *
 * @module
 */
import { type Config, VARIABLE_NAMES } from "../config.ts";

const DEFAULT_PORTS: Readonly<Record<string, number>> = {
  "redis:": 6379,
  "rediss:": 6379,
  "postgres:": 5432,
  "postgresql:": 5432,
};

/**
 * The addresses the service may open: the one it listens at, Redis and Postgres. An address is the
 * host as the configuration writes it, because Deno compares before it resolves.
 */
export function netAddresses(config: Config): string[] {
  const addresses = [
    `${bracketed(config.http.hostname)}:${config.http.port}`,
    ...addressOf(config.cache.url),
    ...addressOf(config.database.url),
  ];
  return [...new Set(addresses)];
}

/**
 * The permission flags of `deno run` for `main.ts`.
 *
 * `--no-remote`, because Deno lets a program import code from some public hosts without being asked.
 * The bare `--ignore-env` makes every other variable read as absent. Without it ioredis, whose debug
 * module lists the environment on import, ends the process.
 */
export function permissionFlags(config: Config): string[] {
  return [
    "--no-prompt",
    "--no-remote",
    `--allow-net=${netAddresses(config).join(",")}`,
    `--allow-env=${VARIABLE_NAMES.join(",")}`,
    "--ignore-env",
  ];
}

/**
 * As {@linkcode permissionFlags}, and no code but what the lock file names and the cache holds: a
 * service that starts must not fetch any.
 */
export function productionFlags(config: Config): string[] {
  return ["--frozen", "--cached-only", ...permissionFlags(config)];
}

function addressOf(url: string): string[] {
  const { protocol, hostname, port } = new URL(url);
  const defaultPort = DEFAULT_PORTS[protocol];
  if (defaultPort === undefined) return [];
  return [`${bracketed(hostname)}:${port === "" ? defaultPort : port}`];
}

function bracketed(host: string): string {
  return host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
}
