/**
 * Reads the URL that says where Redis is and in which topology.
 *
 * @module
 */

/** Limit of servers in a URL: each server of a ring is a separate cache with its own connections. */
const SERVERS_MAX = 64;
const REDIS_PORT = 6379;
const SENTINEL_PORT = 26379;

/** One host, in the form that a permission list can name: no commas, no escapes. */
const HOST = /^(\[[0-9a-f:.]+\]|[a-z0-9][a-z0-9._-]*)$/i;

const URL_PARTS =
  /^(redis|rediss)(?:-(sentinel|cluster|ring))?:\/\/(?:([^@/]*)@)?([^@/?#]+)(\/[^?#]*)?$/;

/** The address of one server. */
export interface ServerAddress {
  /** A name or an address; IPv6 without brackets. */
  readonly host: string;
  /** The TCP port. */
  readonly port: number;
}

/** The credentials and encryption that all connections to Redis share. */
export interface Credentials {
  /** The ACL user. Absent: `default`. */
  readonly username?: string;
  /** Its password. */
  readonly password?: string;
  /** The number of the database. Absent: 0. */
  readonly db?: number;
  /** True for TLS. */
  readonly tls: boolean;
}

/** The servers of the shared tier. */
export type Topology =
  | { readonly kind: "memory" }
  | {
    /** One server, the primary that Sentinels name, a Redis Cluster, or independent servers. */
    readonly kind: "standalone" | "cluster" | "ring";
    /** All servers; for a cluster, those that are asked first. */
    readonly servers: readonly ServerAddress[];
    readonly credentials: Credentials;
  }
  | {
    readonly kind: "sentinel";
    /** The Sentinels. */
    readonly servers: readonly ServerAddress[];
    /** Their name for the primary. */
    readonly master: string;
    readonly credentials: Credentials;
  };

/**
 * Reads a URL: `memory:`, `redis://host:port/db`, `redis-sentinel://h1,h2,h3/master/db`,
 * `redis-cluster://h1,h2,h3`, `redis-ring://h1,h2,h3/db`; with `rediss` for TLS, and
 * `user:password@` before the hosts.
 *
 * @throws {TypeError} It is none of these. The message omits the URL, which may contain a password.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { parseTopology } from "@lookaside/cache";
 *
 * const topology = parseTopology("redis-ring://10.0.0.1,10.0.0.2:6380");
 * assert(topology.kind === "ring" && topology.servers[1]?.port === 6380);
 * ```
 */
export function parseTopology(url: string): Topology {
  if (url === "memory:") return { kind: "memory" };
  const [, scheme = "", form = "standalone", user, hosts = "", path = ""] = URL_PARTS.exec(url) ??
    [];
  if (scheme === "") {
    refuse(
      "its URL must be memory: or like redis://user:password@host:6379/0, without ?query, " +
        "and with / and @ in a password as %2F and %40",
    );
  }
  const kind = form as "standalone" | "sentinel" | "cluster" | "ring";
  const servers = hosts.split(",").map((host) =>
    addressOf(host, kind === "sentinel" ? SENTINEL_PORT : REDIS_PORT)
  );
  if (servers.length > SERVERS_MAX || (kind === "standalone" && servers.length > 1)) {
    refuse(`${servers.length} servers are too many`);
  }
  if (new Set(servers.map(({ host, port }) => `${host} ${port}`)).size < servers.length) {
    refuse("its URL names a server twice");
  }
  const parts = path.split("/").slice(1).filter((part) => part !== "");
  const master = kind === "sentinel" ? parts.shift() : undefined;
  const credentials = { ...userOf(user), ...databaseOf(parts, kind), tls: scheme === "rediss" };
  if (kind !== "sentinel") return { kind, servers, credentials };
  if (master === undefined) refuse("the URL of Sentinels ends with the primary's name");
  return { kind, servers, master: decoded(master), credentials };
}

function addressOf(text: string, defaultPort: number): ServerAddress {
  const [, host = "", port] = /^(.*?)(?::([0-9]{1,5}))?$/.exec(text) ?? [];
  const number = port === undefined ? defaultPort : Number(port);
  if (!HOST.test(host) || number < 1 || number > 65_535) {
    refuse("its URL names no host, or no port of one (in a password, write / as %2F)");
  }
  return { host: host.replace(/^\[|\]$/g, ""), port: number };
}

function userOf(user: string | undefined): Pick<Credentials, "username" | "password"> {
  if (user === undefined) return {};
  const at = user.indexOf(":");
  const username = decoded(at < 0 ? user : user.slice(0, at));
  const password = at < 0 ? "" : decoded(user.slice(at + 1));
  return { ...(username && { username }), ...(password && { password }) };
}

function databaseOf(parts: readonly string[], kind: Topology["kind"]): Pick<Credentials, "db"> {
  const [db, ...more] = parts;
  if (db === undefined) return {};
  if (more.length > 0 || kind === "cluster" || !/^[0-9]{1,5}$/.test(db)) {
    refuse("its URL names no database that there can be");
  }
  return { db: Number(db) };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch (error) {
    throw new TypeError("Cannot connect to Redis: its URL has a bad escape", { cause: error });
  }
}

function refuse(why: string): never {
  throw new TypeError(`Cannot connect to Redis: ${why}`);
}

/** Writes an address as `host:port`, for messages and as a map key. */
export function addressText({ host, port }: ServerAddress): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}
