// @ts-types="./_pg.d.ts"
import pg, { type ClientConfig } from "pg";
import type { DatabaseOptions } from "../database.ts";
import { types } from "./_pg_types.ts";
import { unavailable } from "./_unavailable.ts";

/** How often the system asks a server that sends nothing whether it is there. */
const KEEP_ALIVE_MS = 60_000;

/** How many statements are prepared. The texts of others are sent each time. */
const PREPARED_MAX = 500;

/** What `pg` says of a server that does not encrypt. */
const WITHOUT_TLS = "The server does not support SSL connections";

/** A connection, to a server that may be another one later. */
export class PgClient extends pg.Client {
  /** How often the pool had left a server by then. */
  readonly era: number;
  /** Resolves when the connection is gone. */
  readonly ended: Promise<void>;
  /** Called when it cannot connect. */
  onRefused: (error: Error) => void = () => {};
  /** Whether the server has said that it takes no writes. */
  isReadOnly = false;
  /** Whether it is of no use to anybody else. */
  isSpent = false;
  readonly #url: URL;
  readonly #statementTimeoutMs: number;
  /** Unlike that of any other client: a pooler may lend both the same connection. */
  readonly #prefix: string = `${crypto.randomUUID().slice(0, 13)}-`;
  readonly #names = new Map<string, string>();
  #named = 0;

  /** Connects to nothing yet. */
  constructor(
    { password, ca, connectTimeoutMs = 2_000, statementTimeoutMs = 5_000 }: DatabaseOptions,
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
    // Without any it looks for a file of passwords. The server may say that it is wrong.
    this.password ??= " ";
    this.ended = new Promise((resolve) => this.once("end", resolve));
    // Statements reject by themselves; an error that nobody listens for would end the process.
    this.on("error", () => {});
    // From Postgres 14 on it tells unasked.
    this.connection.on("parameterStatus", ({ parameterName: name, parameterValue: value }) => {
      const tells = name === "in_hot_standby" || name === "default_transaction_read_only";
      if (tells && value === "on") this.isReadOnly = true;
    });
  }

  /** Connects to a server that takes writes, or leaves nothing open. */
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

  /** Adds whatever parameters the URL has. */
  override getStartupConf(): Record<string, string> {
    const parameters = [...this.#url.searchParams].filter(([name]) => !/^ssl(mode)?$/.test(name));
    return {
      ...super.getStartupConf(),
      application_name: "lookaside",
      statement_timeout: String(this.#statementTimeoutMs),
      ...Object.fromEntries(parameters),
    };
  }

  /** The name under which a text is prepared; none: it is not to be. */
  nameOf(text: string): string | undefined {
    const known = this.#names.get(text);
    if (known !== undefined || this.#names.size >= PREPARED_MAX) return known;
    const name = `${this.#prefix}${this.#named++}`;
    this.#names.set(text, name);
    return name;
  }

  /** Has a text prepared anew. */
  forget(text: string): void {
    this.#names.delete(text);
  }

  /** Cuts the connection. What runs on it rejects. */
  destroy(): void {
    this.connection.stream.destroy();
  }
}

/** The server does not encrypt, which the URL leaves to it: the next client does not ask for it. */
export class PlainError extends Error {
  /** Names the class in logs. */
  override readonly name = "PlainError";
}

function modeOf({ searchParams }: URL): string {
  return searchParams.get("sslmode") ?? searchParams.get("ssl") ?? "disable";
}

/** Turns to connections that are not encrypted, if the URL allows them. Answers whether it does. */
function takesPlain(url: URL): boolean {
  if (!["allow", "prefer"].includes(modeOf(url))) return false;
  url.searchParams.set("sslmode", "disable");
  return true;
}

/** Nothing but the `verify-` modes asks for a proof of who the server is. */
function tlsOf(url: URL): NonNullable<ClientConfig["ssl"]> {
  const mode = modeOf(url);
  if (mode === "disable" || mode === "false") return false;
  return ["allow", "prefer", "require"].includes(mode) ? { rejectUnauthorized: false } : true;
}
