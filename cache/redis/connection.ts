import type { Cluster, Redis, RedisOptions } from "ioredis";
import { type Clock, retryDelayMs, within } from "../runtime.ts";
import type { FeedListener } from "../store.ts";

/** Time that the other side has to agree to the end of a connection, before it is torn down. */
export const DISCONNECT_MS = 100;
const CONNECT_MS_MAX = 2_000;
/** However long an outage lasted, a server that is back is used within two seconds. */
const RETRY_MS_MAX = 1_000;
/** Time without a lost connection or a failed attempt after which delays begin anew: longer than one attempt takes. */
const LASTED_MS = RETRY_MS_MAX + 2 * CONNECT_MS_MAX;

/** The client that sends commands: it finds the server that owns their key. */
export type Client = Redis | Cluster;

/** A connection to the servers of one topology. */
export interface Connection {
  /** Sends commands to primaries. */
  readonly client: Client;
  /** True if one command may name keys of several slots. */
  readonly anySlot: boolean;
  /** Answers all current primaries, or rejects. */
  primaries(): Promise<readonly Redis[]>;
  /** As `primaries`, but also rejects if a newer configuration names others. Called before the first read. */
  proved(): Promise<readonly Redis[]>;
  /** Follows the announcements of the current primaries until it is closed. */
  follow(options: FeedOptions): Following;
  /** Closes every socket, and waits until they are closed. */
  close(): Promise<void>;
}

/** Options of {@linkcode Connection.follow}. */
export interface FeedOptions {
  /** Changes of keys with this prefix are announced. */
  readonly prefix: string;
  /** Interval between questions for a sign of life. */
  readonly heartbeatMs: number;
  /** A connection without an answer for this long counts as lost. */
  readonly silenceMsMax: number;
  /** Receives the announcements. */
  readonly listener: FeedListener;
}

/** An open invalidation feed. */
export interface Following {
  /** Drops all entries and opens a new feed: the server may be another one. */
  restart(): void;
  /** Closes the feed for good. */
  close(): Promise<void>;
}

/** Settings and callbacks of a {@linkcode Connection}. */
export interface ConnectionOptions {
  /** Longest duration of a command. */
  readonly commandTimeoutMs: number;
  /** True if the client itself limits the duration of commands; otherwise a `Pipeline` does. */
  readonly boundsCommands: boolean;
  /** The source of time. */
  readonly clock: Clock;
  /** Called when an attempt to connect fails; another follows. */
  readonly onError: (error: unknown) => void;
  /** Called once if the server does not permit key tracking, so that memory is not used. */
  readonly onRefused: (error: unknown) => void;
  /** Called when the connection is made or lost. */
  readonly onConnection: (connected: boolean) => void;
  /** Called when one of several servers joined, left or replaced another. */
  readonly onChange: () => void;
  /**
   * Called if a server may be replaced without notice, with the time (monotonic) until which it is known to be
   * current; for the first time when the connection is open.
   */
  readonly onConfirmed: (untilMs: number) => void;
}

/** The credentials and settings that all connections share. They are asked for anew before each attempt to connect. */
export interface Access {
  readonly username?: string;
  readonly password?: string;
  readonly db?: number;
  /** Encryption; `ca` is PEM of the certificates to trust instead of the system's. */
  readonly tls?: { readonly ca?: string };
  /** The credentials for Sentinels, which have their own users. */
  readonly ofSentinels?: Pick<Access, "username" | "password">;
  readonly connectTimeout: number;
  readonly disconnectTimeout: number;
  /** Keeps the client from sending its name unasked: a server of 7.2 or newer logs each attempt as denied. */
  readonly disableClientInfo: true;
}

/** Settings of every connection: limits of its attempts, and only commands that ops/redis.acl allows. */
export const PATIENCE: Pick<Access, "connectTimeout" | "disconnectTimeout" | "disableClientInfo"> =
  {
    connectTimeout: CONNECT_MS_MAX,
    disconnectTimeout: DISCONNECT_MS,
    disableClientInfo: true,
  };

/** Connection options of ioredis. */
export type ConnectOptions = Omit<RedisOptions, "replyMapping">;

/** Makes a client ask for its credentials each time that it connects or is duplicated. */
export function askForCredentials(client: Redis, access: () => ConnectOptions): void {
  for (const name of ["username", "password"] as const) {
    const property = { get: () => access()[name], enumerable: true, configurable: true };
    Object.defineProperty(client.options, name, property);
  }
}

/** Options for sending commands: none is sent twice, and none waits in the client for a connection. */
export function commandOptions(
  { commandTimeoutMs, boundsCommands }: ConnectionOptions,
): ConnectOptions {
  return {
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    ...(boundsCommands ? { commandTimeout: commandTimeoutMs } : {}),
  };
}

/**
 * Makes the delays before attempts to connect. They grow also while each attempt succeeds but the connection is soon
 * lost, as where something ends all connections; otherwise there would be 20 attempts a second.
 */
export function reconnectDelays(clock: Pick<Clock, "monotonicNow">): () => number {
  let attempts = 0;
  let lastAtMs = -Infinity;
  return () => {
    const nowMs = clock.monotonicNow();
    attempts = nowMs - lastAtMs < LASTED_MS ? attempts + 1 : 1;
    lastAtMs = nowMs;
    return retryDelayMs(attempts, RETRY_MS_MAX);
  };
}

/** Disconnects, and waits until every socket is closed, for a limited time if the server hangs. */
export async function disconnect(
  client: Client,
  clock: Clock,
  nodes: readonly Redis[] = [],
): Promise<void> {
  const ended = Promise.all(
    [client, ...nodes].filter(({ status }) => status !== "end").map((part) =>
      new Promise<void>((resolve) => void part.once("end", resolve))
    ),
  );
  if (client.status === "end") return;
  client.disconnect();
  // Between two attempts to connect there is no socket, so no end event either.
  await within(clock, 2 * DISCONNECT_MS, ended);
}
