import type { Buffer } from "node:buffer";
import { Redis } from "ioredis";
import {
  type ConnectionOptions,
  type ConnectOptions,
  disconnect,
  type FeedOptions,
  type Following,
  reconnectDelays,
} from "./connection.ts";
import { isWithoutConnection } from "./not_connected.ts";
import { cannotSave } from "./reply_errors.ts";
import { completed, type Timer } from "../runtime.ts";

const CHANNEL = "__redis__:invalidate";
/** Delay before a replaced connection: short, as nothing has failed. */
const RESTART_MS = 50;
/** Delay after the server did not permit key tracking, which will not change soon. */
const REFUSED_RETRY_MS = 10_000;
/** Replies that do not permit tracking. `LOADING` and the like pass soon. */
const REFUSED = /^(NOPERM|ERR unknown|ERR syntax|Cannot track)/i;

/** The parts of a {@linkcode Feed}. */
export type FeedWiring = FeedOptions & Pick<ConnectionOptions, "clock" | "onRefused">;

/**
 * The invalidation feed of one Redis server: client tracking in broadcast mode, redirected to the connection
 * itself, which announces every change of a key with the prefix, by any client. (Redis documentation,
 * "Client-side caching".)
 *
 * The reply to a `PING` proves that all changes made before the `PING` was sent have been announced. Redis announces
 * changes at the end of each turn of its event loop, so one made in the turn of the `PING` may be announced after the
 * reply; but it was made after the `PING` had arrived.
 *
 * It uses RESP2, because ioredis drops the push messages of RESP3. Each attempt is a new connection object, and
 * a lost one is always replaced, so the same object means the same connection.
 */
export class Feed implements Following {
  readonly #connect: () => ConnectOptions;
  readonly #wiring: FeedWiring;
  #refused = false;
  #client: Redis | undefined;
  #timer: Timer | undefined;
  /** Resolves when all lost or replaced connections are closed. */
  #ending: Promise<void> = Promise.resolve();
  readonly #retryDelayMs: () => number;
  #closed = false;

  constructor(connect: () => ConnectOptions, wiring: FeedWiring) {
    this.#connect = connect;
    this.#wiring = wiring;
    this.#retryDelayMs = reconnectDelays(wiring.clock);
    void this.#open();
  }

  /** Replaces the connection. */
  restart(): void {
    if (this.#client !== undefined) {
      const reason = "the feed is opened again, as the server may be another";
      this.#lost(this.#client, reason, RESTART_MS);
    }
  }

  /** Closes the feed for good. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    if (this.#client !== undefined) this.#end(this.#client);
    await this.#ending;
  }

  /** Never rejects: a failed attempt schedules the next. */
  async #open(): Promise<void> {
    const client = new Redis({
      ...this.#connect(),
      protocol: 2,
      lazyConnect: true,
      enableOfflineQueue: false,
      enableAutoPipelining: false,
      autoResubscribe: false,
      retryStrategy: () => null,
      commandTimeout: this.#wiring.silenceMsMax,
    });
    this.#client = client;
    client.on("error", () => {
      // The close event follows, and reports that the feed is lost.
    });
    client.on("messageBuffer", (_channel: Buffer, message: unknown) => this.#receive(message));
    try {
      await client.connect();
      const id = await client.client("ID");
      const { prefix } = this.#wiring;
      // Check that this is Redis: an invalid reply to SUBSCRIBE makes ioredis throw an error that cannot be caught.
      if (!Number.isInteger(id)) throw new Error("Cannot track keys: CLIENT ID answers no number");
      const tracking = ["ON", "REDIRECT", `${id}`, "BCAST", "PREFIX", prefix];
      const answer = await client.call("CLIENT", "TRACKING", ...tracking);
      if (answer !== "OK") throw new Error("Cannot track keys: CLIENT TRACKING answers no OK");
      client.once("close", () => this.#lost(client, "connection closed"));
      await client.subscribe(CHANNEL);
      if (this.#closed || this.#client !== client) return this.#end(client);
      this.#refused = false;
      this.#wiring.listener.opened();
      await this.#beat(client);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const isRefused = REFUSED.test(message);
      if (isRefused && !this.#refused) this.#wiring.onRefused(error);
      this.#refused ||= isRefused;
      this.#lost(client, message, isRefused ? REFUSED_RETRY_MS : undefined);
    }
  }

  /** Asks for a sign of life, again and again. Rejects if there is none. */
  async #beat(client: Redis): Promise<void> {
    const sentAtMs = this.#wiring.clock.monotonicNow();
    await client.ping().catch((error: unknown) => {
      if (!cannotSave(error)) throw error; // a server that cannot save refuses to answer, which proves the same
    });
    if (this.#closed || this.#client !== client) return;
    this.#wiring.listener.alive(sentAtMs);
    this.#timer = this.#wiring.clock.after(this.#wiring.heartbeatMs, () => {
      this.#beat(client).catch((error: Error) => this.#lost(client, error.message));
    });
  }

  /** `null` announces that the database was flushed. */
  #receive(message: unknown): void {
    if (message === null) return this.#wiring.listener.flushed();
    if (!Array.isArray(message)) return;
    for (const key of message) this.#wiring.listener.changed(String(key));
  }

  #lost(client: Redis, reason: string, retryMs?: number): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    this.#timer?.cancel();
    this.#end(client);
    this.#wiring.listener.closed(isWithoutConnection(reason) ? "connection closed" : reason);
    if (this.#closed) return;
    const delayMs = retryMs ?? this.#retryDelayMs();
    this.#timer = this.#wiring.clock.after(delayMs, () => void this.#open());
  }

  #end(client: Redis): void {
    this.#ending = completed([this.#ending, disconnect(client, this.#wiring.clock)]);
  }
}
