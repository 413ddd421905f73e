// @ts-types="./_pg.d.ts"
import pg, { type ClientConfig } from "pg";
import type { DriverOptions } from "./_options.ts";
import { unavailable } from "./_unavailable.ts";

/** The interval of keep-alive probes to a server that sends nothing. */
const KEEP_ALIVE_MS = 60_000;

/** The most statements that are prepared. The texts of others are sent each time. */
const PREPARED_MAX = 500;

/** The error of `pg` for a server that does not encrypt. */
const WITHOUT_TLS = "The server does not support SSL connections";

/** The types that `pg` reads as values of JSON, by OID. */
const READ: ReadonlySet<number> = new Set([
  ...[16, 17, 21, 23, 26, 114, 700, 701, 3802], // bool, bytea, int2, int4, oid, json, float4, float8, jsonb
  ...[1005, 1007, 1009, 1015, 1016], // int2[], int4[], text[], varchar[], int8[]
  ...[1021, 1022, 2951], // float4[], float8[], uuid[]
]);
/** date, timestamp, timestamptz. */
const DATES: ReadonlySet<number> = new Set([1082, 1114, 1184]);

/** Readers of types. Values of other types stay the text of Postgres, as a bigint must. */
const types = {
  /** Chooses the reader of a type. */
  getTypeParser(oid: number): (text: string) => unknown {
    if (DATES.has(oid)) return (text) => new Date(text);
    return READ.has(oid) ? pg.types.getTypeParser(oid, "text") : (text) => text;
  },
};

/** One connection, to one of the servers. */
export class PgClient extends pg.Client {
  /** The era of the pool in which it was made. */
  readonly era: number;
  /** Resolves when the connection is gone. */
  readonly ended: Promise<void>;
  /** Called if the connection cannot be opened. */
  onRefused: (error: Error) => void = () => {};
  /** True once the server has announced that it takes no writes. */
  isReadOnly = false;
  /** True once the connection must not be used again. */
  isSpent = false;
  readonly #url: URL;
  readonly #statementTimeoutMs: number;
  /** The start of statement names. It is unique, because a pooler may give two clients the same connection. */
  readonly #prefix: string = `${crypto.randomUUID().slice(0, 13)}-`;
  readonly #names = new Map<string, string>();
  #named = 0;

  /** Connects to nothing yet. */
  constructor(
    { password, ca, connectTimeoutMs, statementTimeoutMs }: DriverOptions,
    { url, era }: { readonly url: URL; readonly era: number },
  ) {
    super({
      host: decodeURIComponent(url.hostname).replace(/^\[(.*)\]$/, "$1"),
      port: url.port === "" ? 5432 : Number(url.port),
      user: decodeURIComponent(url.username) || undefined,
      database: decodeURIComponent(url.pathname.slice(1)) || undefined,
      password: password ?? decodeURIComponent(url.password),
      ssl: ca === undefined ? tlsOf(url) : { ca },
      sslnegotiation: "postgres",
      connectionTimeoutMillis: connectTimeoutMs,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
      types,
    });
    this.era = era;
    this.#url = url;
    this.#statementTimeoutMs = statementTimeoutMs;
    // Without a password, `pg` would look for a file of them. The server refuses this one.
    this.password ??= " ";
    this.ended = new Promise((resolve) => this.once("end", resolve));
    // An error event without a listener would end the process. Statements reject in any case.
    this.on("error", () => {});
    // Postgres 14 and newer announce both settings.
    this.connection.on("parameterStatus", ({ parameterName: name, parameterValue: value }) => {
      const tells = name === "in_hot_standby" || name === "default_transaction_read_only";
      if (tells && value === "on") this.isReadOnly = true;
    });
  }

  /** Connects to a server that accepts writes; otherwise closes the connection. */
  override connect(callback: (error?: Error | null) => void): void {
    super.connect((failure) => {
      const readOnly = this.isReadOnly && unavailable("the server is read-only", undefined);
      const error = failure || readOnly;
      if (!error) return callback();
      this.destroy();
      this.onRefused(error);
      callback(error.message === WITHOUT_TLS && takesPlain(this.#url) ? new PlainError() : error);
    });
  }

  /** Adds the parameters of the URL. */
  override getStartupConf(): Record<string, string> {
    const parameters = [...this.#url.searchParams].filter(([name]) => !/^ssl(mode)?$/.test(name));
    return {
      ...super.getStartupConf(),
      application_name: "lookaside",
      statement_timeout: String(this.#statementTimeoutMs),
      ...Object.fromEntries(parameters),
    };
  }

  /** The name under which a text is prepared. `undefined`: too many are prepared already. */
  nameOf(text: string): string | undefined {
    const known = this.#names.get(text);
    if (known !== undefined || this.#names.size >= PREPARED_MAX) return known;
    const name = `${this.#prefix}${this.#named++}`;
    this.#names.set(text, name);
    return name;
  }

  /** Gives a text a new name, under which it is prepared again. */
  forget(text: string): void {
    this.#names.delete(text);
  }

  /** Closes the connection. Running statements reject. */
  destroy(): void {
    this.connection.stream.destroy();
  }
}

/** The server does not encrypt, and the URL permits that. The next client connects without TLS. */
export class PlainError extends Error {
  /** Names the class in logs. */
  override readonly name = "PlainError";
}

function modeOf({ searchParams }: URL): string {
  return searchParams.get("sslmode") ?? searchParams.get("ssl") ?? "disable";
}

/** Switches TLS off if the URL permits that. Answers whether it does. */
function takesPlain(url: URL): boolean {
  if (!["allow", "prefer"].includes(modeOf(url))) return false;
  url.searchParams.set("sslmode", "disable");
  return true;
}

/** The TLS options of a URL. Only the `verify-` modes check the certificate. */
function tlsOf(url: URL): NonNullable<ClientConfig["ssl"]> {
  const mode = modeOf(url);
  if (mode === "disable" || mode === "false") return false;
  return ["allow", "prefer", "require"].includes(mode) ? { rejectUnauthorized: false } : true;
}
