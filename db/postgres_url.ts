/**
 * The URL of a Postgres, as providers give it and libpq reads it: several servers, and parameters for Postgres,
 * a driver or a tool.
 *
 * @module
 */

/** The parts of a URL: everything before the servers, the servers, everything after. */
const PARTS = /^(postgres(?:ql)?:\/\/(?:[^/?#]*@)?)([^@/?#]*)(.*)$/s;
/** A generous limit. */
const SERVERS_MAX = 10;

const SSL_MODES = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
/** Whatever it says, the server that accepts writes is used: on any other, nothing works. */
const SESSIONS = ["any", "read-write", "primary"];

/**
 * Parameters for other drivers or tools: their effect is not available here, or always there. `channel_binding`
 * is an assurance that no driver here can give.
 */
const FOREIGN: ReadonlySet<string> = new Set([
  "channel_binding",
  "connect_timeout",
  "connection_limit",
  "fetch_types",
  "gssencmode",
  "idle_timeout",
  "keep_alive",
  "max",
  "max_lifetime",
  "pgbouncer",
  "pool_timeout",
  "prepare",
  "sslaccept",
  "sslnegotiation",
  "socket_timeout",
  "statement_cache_size",
  "supa",
  "uselibpqcompat",
  "workaround",
]);

/** A parameter of a URL has an invalid value. The message says what it must be. */
export class ParameterError extends TypeError {
  override readonly name = "ParameterError";
}

/** A URL for each of the servers, in the form that drivers understand. */
export interface PostgresServers {
  /** The URLs, at least one, in the order in which the servers are tried. */
  readonly urls: readonly [URL, ...URL[]];
  /** Names of ignored parameters. */
  readonly passedOver: readonly string[];
}

/**
 * Reads a URL with one or several servers. Parameters for other programs are left out, and Prisma's `schema`
 * becomes `search_path`; Postgres itself rejects unknown ones by name.
 *
 * @throws {TypeError} It is not such a URL, or has a {@linkcode ParameterError}. The message does not contain
 * it.
 */
export function parsePostgresUrl(text: string): PostgresServers {
  const [, before, servers = "", after = ""] = PARTS.exec(text) ?? [];
  const hosts = servers.split(",");
  if (before === undefined || servers === "" || hosts.length > SERVERS_MAX) {
    throw new TypeError(`Cannot read the URL of a Postgres with 1 to ${SERVERS_MAX} servers`);
  }
  const passedOver = new Set<string>();
  const [first, ...others] = hosts.map((host) => {
    if (host === "" || !URL.canParse(`${before}${host}${after}`)) {
      throw new TypeError("Cannot read the address of a Postgres");
    }
    const url = new URL(`${before}${host}${after}`);
    for (const [name, value] of [...url.searchParams]) {
      if (FOREIGN.has(name)) passedOver.add(name);
      if (name === "schema") url.searchParams.set("search_path", value);
      if (FOREIGN.has(name) || name === "schema") url.searchParams.delete(name);
    }
    assertEscaped(url);
    assertOneOf(url, "sslmode", SSL_MODES);
    assertOneOf(url, "target_session_attrs", SESSIONS);
    url.searchParams.delete("target_session_attrs");
    return url;
  });
  if (first === undefined) throw new TypeError("Cannot read the URL of a Postgres");
  return { urls: [first, ...others], passedOver: [...passedOver] };
}

/** A URL with some part of it changed, for all of its servers. */
export function changePostgresUrl(text: string, change: (url: URL) => void): string {
  const [, before = "", servers = "", after = ""] = PARTS.exec(text) ?? [];
  const url = new URL(`${before}servers${after}`);
  change(url);
  return url.href.replace(/servers(?=[/?#]|$)/, () => servers);
}

function assertEscaped({ username, password, pathname }: URL): void {
  try {
    for (const part of [username, password, pathname]) decodeURIComponent(part);
  } catch (error) {
    if (!(error instanceof URIError)) throw error;
    throw new ParameterError("must be a URL in which % begins an escape: write %25 for itself");
  }
}

function assertOneOf({ searchParams }: URL, name: string, known: readonly string[]): void {
  for (const value of searchParams.getAll(name)) {
    if (!known.includes(value)) {
      throw new ParameterError(`must be a URL in which ${name} is one of ${known.join(", ")}`);
    }
  }
}
