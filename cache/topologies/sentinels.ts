import { Redis } from "ioredis";
import { type Access, disconnect, reconnectDelayMs } from "../redis/connection.ts";
import { isReply } from "../redis/reply_errors.ts";
import type { Clock } from "../runtime.ts";
import { addressText, type ServerAddress } from "./url.ts";

/** How often every Sentinel is asked, and how long it may take to answer. */
export const ASK_MS = 500;
/** Sentinels that are asked beside those that the URL names. */
const FOUND_MAX = 16;

/** The addresses of Sentinels, and their name for the primary. */
export interface SentinelsOptions {
  readonly servers: readonly ServerAddress[];
  readonly master: string;
}

/** The server that Sentinels call the primary. */
export interface NamedPrimary {
  readonly server: ServerAddress;
  /** For at least so long every Sentinel that knows of it has called it that. */
  readonly sinceMs: number;
}

/** No Sentinel answers. */
export class UnreachableError extends Error {
  override readonly name = "UnreachableError";
}

/** The answer of one Sentinel: the primary, the configuration epoch in which it became that, the others. */
interface Answer extends NamedPrimary {
  readonly epoch: number;
  readonly others: readonly ServerAddress[];
}

/** All Sentinels that are known, asked together: one that lags behind the others is not believed. */
export class Sentinels {
  readonly #options: SentinelsOptions;
  readonly #access: Access;
  readonly #asked = new Map<string, Redis>();
  readonly #clock: Clock;
  #closed = false;
  #closing: Promise<unknown> = Promise.resolve();
  /** The credentials that they are asked with: their own, none, or those of the servers if they want some. */
  #login: Pick<Access, "username" | "password">;
  /** The highest configuration epoch that any of them has named. */
  #epoch = 0;

  constructor(options: SentinelsOptions, access: Access, clock: Clock) {
    this.#clock = clock;
    this.#options = options;
    this.#access = access;
    this.#login = access.ofSentinels ?? {};
    for (const server of options.servers) this.#add(server);
  }

  /**
   * Answers the primary of the highest configuration epoch that is known. Rejects while nobody can name it:
   * no Sentinel answers, all that do lag behind, or two of the same epoch contradict each other.
   *
   * @throws {UnreachableError} No Sentinel answers.
   */
  async primary(): Promise<NamedPrimary> {
    const asked = await Promise.allSettled(
      [...this.#asked.values()].map((each) => this.#ask(each)),
    );
    const answers = asked.flatMap((each) => each.status === "fulfilled" ? [each.value] : []);
    if (answers.length === 0) {
      const [first] = asked.flatMap((each) => each.status === "rejected" ? [each.reason] : []);
      if (isReply(first)) this.#logIn();
      throw new UnreachableError(
        `Cannot find the primary: no Sentinel names it (${first?.message})`,
      );
    }
    for (const server of answers.flatMap(({ others }) => others)) this.#add(server);
    const epoch = Math.max(...answers.map((answer) => answer.epoch));
    const newest = answers.filter((answer) => answer.epoch === epoch);
    const names = new Set(newest.map(({ server }) => addressText(server)));
    // Sentinels that were set up anew count from 0: then they all say so.
    const anew = newest.length >= this.#asked.size;
    if (epoch < this.#epoch && !anew) {
      throw new Error("Cannot find the primary: the Sentinels that answer lag behind");
    }
    const [found] = newest;
    if (found === undefined || names.size > 1) {
      throw new Error(`Cannot find the primary: the Sentinels name ${[...names].join(" and ")}`);
    }
    this.#epoch = epoch;
    return { server: found.server, sinceMs: Math.min(...newest.map(({ sinceMs }) => sinceMs)) };
  }

  /** Asks nobody any more, and waits until every connection is closed. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#disconnect();
    await this.#closing;
  }

  #disconnect(): void {
    const closing = [...this.#asked.values()].map((each) => disconnect(each, this.#clock));
    this.#closing = Promise.all([this.#closing, ...closing]);
    this.#asked.clear();
  }

  /** Asks with the credentials of the servers from now on, unless some are in use. */
  #logIn(): void {
    const { username, password } = this.#access;
    if (this.#closed || this.#login.password !== undefined || password === undefined) return;
    this.#login = { ...(username === undefined ? {} : { username }), password };
    const servers = [...this.#asked.values()].map(({ options: { host = "", port = 0 } }) => (
      { host, port }
    ));
    this.#disconnect();
    for (const server of servers) this.#add(server);
  }

  #add(server: ServerAddress): void {
    const name = addressText(server);
    const { servers } = this.#options;
    if (this.#asked.has(name) || this.#asked.size >= servers.length + FOUND_MAX) return;
    const { connectTimeout, disconnectTimeout, disableClientInfo, tls } = this.#access;
    const sentinel = new Redis({
      ...{ ...server, connectTimeout, disconnectTimeout, retryStrategy: reconnectDelayMs },
      ...{ ...(tls === undefined ? {} : { tls }), disableClientInfo, ...this.#login },
      // A question waits for the connection; an attempt that fails rejects it.
      ...{ enableReadyCheck: false, maxRetriesPerRequest: 0, commandTimeout: ASK_MS },
    });
    sentinel.on("error", () => {
      // The question that it could not be asked says the same.
    });
    this.#asked.set(name, sentinel);
  }

  /**
   * The epoch is asked for before the address: in a failover the epoch changes first, and an address that
   * is older than its epoch would be believed.
   */
  async #ask(sentinel: Redis): Promise<Answer> {
    const { master } = this.#options;
    const [fields, address, others] = await Promise.all([
      sentinel.call("SENTINEL", "MASTER", master),
      sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master),
      sentinel.call("SENTINEL", "SENTINELS", master),
    ]);
    if (!Array.isArray(address)) throw new Error(`a Sentinel knows no ${master}`);
    const known = fieldsOf(fields);
    const server = { host: String(address[0]), port: Number(address[1]) };
    // Whoever leads a failover names the new primary before it counts how long that has been one.
    const same = known.get("ip") === server.host && Number(known.get("port")) === server.port;
    return {
      server,
      sinceMs: same ? Number(known.get("role-reported-time")) : 0,
      epoch: Number(known.get("config-epoch")),
      others: listOf(others).map(fieldsOf).flatMap((other) => {
        const [host, port] = [other.get("ip") ?? "", Number(other.get("port"))];
        const up = !/disconnected|s_down/.test(other.get("flags") ?? "");
        return up && host !== "" && port > 0 ? [{ host, port }] : [];
      }),
    };
  }
}

function listOf(reply: unknown): unknown[] {
  return Array.isArray(reply) ? reply : [];
}

/** `["name", value, …]`. */
function fieldsOf(reply: unknown): ReadonlyMap<string, string> {
  const list = listOf(reply).map(String);
  return new Map(list.flatMap((name, at) => at % 2 === 0 ? [[name, list[at + 1] ?? ""]] : []));
}
