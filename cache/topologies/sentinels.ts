import { Redis } from "ioredis";
import { type Access, disconnect, reconnectDelays } from "../redis/connection.ts";
import { isWithoutConnection } from "../redis/not_connected.ts";
import { isReply, isUnknownPrimary } from "../redis/reply_errors.ts";
import { type Clock, completed } from "../runtime.ts";
import { addressText, type ServerAddress } from "./url.ts";

/** Time that a Sentinel has to answer. */
const ANSWER_MS = 500;
/** A time-out that is later than this shows that this process was busy or suspended. */
const LATE_MS = 50;
/** Limit of discovered Sentinels, besides those in the URL. */
const FOUND_MAX = 16;

/** The addresses of the Sentinels, and their name for the primary. */
export interface SentinelsOptions {
  readonly servers: readonly ServerAddress[];
  readonly master: string;
}

/** The server that the Sentinels call the primary. */
export interface NamedPrimary {
  readonly server: ServerAddress;
  /** The time of the question (monotonic). */
  readonly askedAtMs: number;
  /** The configuration epoch since which it is the primary: each failover has a higher one. */
  readonly epoch: number;
  /**
   * Time for which every Sentinel that knows it has called it the primary, at least; 0: most of those that answer
   * do not know it yet.
   */
  readonly sinceMs: number;
}

/** Thrown if no Sentinel can be reached. */
export class UnreachableError extends Error {
  override readonly name = "UnreachableError";
}

/** Thrown if Sentinels can be reached, and none names a primary. */
export class UnnamedPrimaryError extends Error {
  override readonly name = "UnnamedPrimaryError";
}

/** The answer of one Sentinel: the primary, and the other Sentinels. */
interface Answer extends Omit<NamedPrimary, "askedAtMs"> {
  readonly others: readonly ServerAddress[];
}

/** All known Sentinels, which are asked together, so that one that lags behind is not believed. */
export class Sentinels {
  readonly #options: SentinelsOptions;
  readonly #access: () => Access;
  readonly #asked = new Map<string, Redis>();
  /** The primary that each Sentinel named last, and the first time (monotonic) at which it did. */
  readonly #heard = new WeakMap<Redis, { readonly primary: string; readonly atMs: number }>();
  /** The reason why each Sentinel could last not be connected to. */
  readonly #refused = new WeakMap<Redis, string>();
  readonly #clock: Clock;
  #closed = false;
  #closing: Promise<void> = Promise.resolve();
  /** The credentials for Sentinels: their own, or if there are none, those of the servers once they are refused. */
  #login: Pick<Access, "username" | "password">;
  /** The highest configuration epoch that any of them has named. */
  #epoch = 0;

  constructor(options: SentinelsOptions, access: () => Access, clock: Clock) {
    this.#clock = clock;
    this.#options = options;
    this.#access = access;
    this.#login = access().ofSentinels ?? {};
    for (const server of options.servers) this.#add(server);
  }

  /**
   * Answers the primary with the highest known configuration epoch. Rejects while it is unknown: no Sentinel
   * answers, all that answer lag behind, or two with the same epoch contradict each other.
   *
   * @throws {UnreachableError} No Sentinel can be reached.
   * @throws {UnnamedPrimaryError} Those that can be know no primary of that name, or refuse to say.
   */
  async primary(): Promise<NamedPrimary> {
    const askedAtMs = this.#clock.monotonicNow();
    const sentinels = [...this.#asked.values()];
    const asked = await Promise.allSettled(sentinels.map((each) => this.#ask(each)));
    const answers = asked.flatMap((each) => each.status === "fulfilled" ? [each.value] : []);
    if (answers.length === 0) {
      // A late time-out comes before the answers that the sockets hold, and those may name another primary.
      if (this.#clock.monotonicNow() - askedAtMs > ANSWER_MS + LATE_MS) {
        throw new Error("Cannot find the primary: this process was too busy to hear a Sentinel");
      }
      const errors = asked.flatMap((each) => each.status === "rejected" ? [each.reason] : []);
      const { master } = this.#options;
      if (errors.some(isUnknownPrimary)) {
        throw new UnnamedPrimaryError(`Cannot find the primary: a Sentinel knows no ${master}`);
      }
      const refusal = errors.find(isReply);
      if (refusal !== undefined) this.#logInAnew();
      const why = this.#reasonOf(sentinels[0], refusal ?? errors[0]);
      const message = `Cannot find the primary: no Sentinel names it (${why})`;
      throw refusal === undefined
        ? new UnreachableError(message)
        : new UnnamedPrimaryError(message);
    }
    for (const server of answers.flatMap(({ others }) => others)) this.#add(server);
    const epoch = Math.max(...answers.map((answer) => answer.epoch));
    const newest = answers.filter((answer) => answer.epoch === epoch);
    const names = new Set(newest.map(({ server }) => addressText(server)));
    // Sentinels that were set up again count from 0; then all of them name a lower epoch.
    const isReset = newest.length >= this.#asked.size;
    if (epoch < this.#epoch && !isReset) {
      throw new Error("Cannot find the primary: the Sentinels that answer lag behind");
    }
    const [found] = newest;
    if (found === undefined || names.size > 1) {
      throw new Error(`Cannot find the primary: the Sentinels name ${[...names].join(" and ")}`);
    }
    this.#epoch = epoch;
    // A process that cannot reach the leader of a failover hears of it from the others.
    const isKnown = newest.length > answers.length / 2;
    const sinceMs = isKnown ? Math.min(...newest.map((answer) => answer.sinceMs)) : 0;
    return { ...found, askedAtMs, sinceMs };
  }

  /** Tells why a Sentinel did not answer: the client says so when it connects, not when it is asked. */
  #reasonOf(sentinel: Redis | undefined, error: unknown): string {
    const message = error instanceof Error ? error.message : String(error);
    if (sentinel === undefined || !isWithoutConnection(message)) return message;
    return this.#refused.get(sentinel) ?? "there is no connection";
  }

  /** Stops asking, and waits until every connection is closed. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#disconnect();
    await this.#closing;
  }

  #disconnect(): void {
    const closing = [...this.#asked.values()].map((each) => disconnect(each, this.#clock));
    this.#closing = completed([this.#closing, ...closing]);
    this.#asked.clear();
  }

  /** After a refusal, asks with its present credentials, or with those of the servers and with none in turn. */
  #logInAnew(): void {
    const { username, password, ofSentinels: own = {} } = this.#access();
    const isOwnTurn = this.#login.password !== undefined;
    const login = isOwnTurn
      ? own
      : { ...(username && { username }), ...(password && { password }) };
    const isSame = login.username === this.#login.username &&
      login.password === this.#login.password;
    if (this.#closed || isSame) return;
    this.#login = login;
    const servers = [...this.#asked.values()].map(({ options: { host = "", port = 0 } }) => (
      { host, port }
    ));
    this.#disconnect();
    for (const server of servers) this.#add(server);
  }

  #add(server: ServerAddress): void {
    const name = addressText(server);
    const { servers } = this.#options;
    // An answer may come together with the end.
    if (this.#closed || this.#asked.has(name) || this.#asked.size >= servers.length + FOUND_MAX) {
      return;
    }
    const { connectTimeout, disconnectTimeout, disableClientInfo, tls } = this.#access();
    const sentinel = new Redis({
      ...server,
      connectTimeout,
      disconnectTimeout,
      retryStrategy: reconnectDelays(this.#clock),
      ...(tls === undefined ? {} : { tls }),
      disableClientInfo,
      ...this.#login,
      // A question waits for the connection; if the attempt fails, it rejects.
      enableReadyCheck: false,
      maxRetriesPerRequest: 0,
      commandTimeout: ANSWER_MS,
    });
    sentinel.on("error", ({ message }: Error) => this.#refused.set(sentinel, message));
    this.#asked.set(name, sentinel);
  }

  /**
   * Asks for the epoch before the address: a failover changes the epoch first, and an address older than its
   * epoch would be trusted.
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
    const epoch = Number(known.get("config-epoch"));
    // The leader of a failover names the new primary before it restarts the time for which it has been one.
    const same = known.get("ip") === server.host && Number(known.get("port")) === server.port;
    const reportedMs = same ? Number(known.get("role-reported-time")) : 0;
    return {
      server,
      epoch,
      sinceMs: Math.max(reportedMs, this.#heardForMs(sentinel, `${addressText(server)} ${epoch}`)),
      others: listOf(others).map(fieldsOf).flatMap((other) => {
        const [host, port] = [other.get("ip") ?? "", Number(other.get("port"))];
        const up = !/disconnected|s_down/.test(other.get("flags") ?? "");
        return up && host !== "" && port > 0 ? [{ host, port }] : [];
      }),
    };
  }

  /**
   * Time since this process first heard a Sentinel name a primary. The Sentinel's own time restarts later: at
   * the leader once the replicas have followed, which may take minutes, and at each start of the Sentinel.
   */
  #heardForMs(sentinel: Redis, primary: string): number {
    const nowMs = this.#clock.monotonicNow();
    const heard = this.#heard.get(sentinel);
    if (heard?.primary === primary) return nowMs - heard.atMs;
    this.#heard.set(sentinel, { primary, atMs: nowMs });
    return 0;
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
