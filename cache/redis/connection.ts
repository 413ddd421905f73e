import type { Cluster, Redis, RedisOptions } from "ioredis";
import { type Clock, retryDelayMs, within } from "../runtime.ts";
import type { FeedListener } from "../store.ts";

/** How long the other side may take to agree that a connection ends, before it is torn down. */
export const DISCONNECT_MS = 100;
const CONNECT_MS_MAX = 2_000;
/** However long an outage was, a server that is back is in use within two seconds. */
const RETRY_MS_MAX = 1_000;

/** The client that commands are sent through: it finds the server that owns their key. */
export type Client = Redis | Cluster;

/** A connection to the servers of one topology. */
export interface Connection {
  /** Sends commands to the servers that take writes. */
  readonly client: Client;
  /** Whether one command may name keys of several slots. */
  readonly anySlot: boolean;
  /** Answers the servers that take writes now: all of them, or it rejects. */
  primaries(): Promise<readonly Redis[]>;
  /** As `primaries`, and rejects as well if a newer configuration names others. Asked before the first read. */
  proved(): Promise<readonly Redis[]>;
  /** Follows what those servers announce, whichever they are, until it is closed. */
  follow(options: FeedOptions, listener: FeedListener): Following;
  /** Ends it, and waits until every socket is closed. */
  close(): Promise<void>;
}

/** Options of {@linkcode Connection.follow}. */
export interface FeedOptions {
  /** Keys that begin with this are announced. */
  readonly prefix: string;
  /** How often the connection is asked for a sign of life. */
  readonly heartbeatMs: number;
  /** Without an answer for this long the connection counts as lost. */
  readonly silenceMsMax: number;
  /** Looks, with each sign of life, for what the servers do not announce; while it cannot, none counts. */
  readonly look?: () => Promise<void>;
}

/** An invalidation feed that is being followed. */
export interface Following {
  /** Drops what is held and begins anew: the server may be another one. */
  restart(): void;
  /** Ends it for good. */
  close(): Promise<void>;
}

/** How a {@linkcode Connection} is made, and who is told of it. */
export interface ConnectionOptions {
  /** How long a command may take. */
  readonly commandTimeoutMs: number;
  /** Whether the client bounds each command by itself; a `Pipeline` does so otherwise. */
  readonly boundsCommands: boolean;
  /** The source of time. */
  readonly clock: Clock;
  /** Called when an attempt to connect fails; another one follows. */
  readonly onError: (error: unknown) => void;
  /** Called when a server does not let us track keys, so that memory is not used. */
  readonly onRefused: (error: unknown) => void;
  /** Called when the connection comes or goes. */
  readonly onConnection: (connected: boolean) => void;
  /** Called when one of several servers came, went or took another's place. */
  readonly onChange: () => void;
  /**
   * Called where a server may be replaced without a word: until then (monotonic) it is known not to have been.
   * Such a connection says so for the first time once it is open.
   */
  readonly onStands: (untilMs: number) => void;
}

/** The address of a server and the credentials there, which every connection has in common. */
export interface Access {
  readonly username?: string;
  readonly password?: string;
  readonly db?: number;
  /** How to encrypt: `ca` is PEM of the certificates to trust, instead of the system's. */
  readonly tls?: { readonly ca?: string };
  /** The same for Sentinels, which have users of their own. */
  readonly ofSentinels?: Pick<Access, "username" | "password">;
  readonly connectTimeout: number;
  readonly disconnectTimeout: number;
  /** Keeps the client from telling its name, unasked: a server of 7.2 or newer notes each such attempt as denied. */
  readonly disableClientInfo: true;
}

/** Settings of every connection: bounds of its attempts, and no command that ops/redis.acl does not list. */
export const PATIENCE: Pick<Access, "connectTimeout" | "disconnectTimeout" | "disableClientInfo"> =
  {
    connectTimeout: CONNECT_MS_MAX,
    disconnectTimeout: DISCONNECT_MS,
    disableClientInfo: true,
  };

/** How to connect, in the words of ioredis. */
export type ConnectOptions = Omit<RedisOptions, "replyMapping">;

/** Puts settings together without asking for them: those of a getter are asked for when they are used. */
export function together<A extends object, B extends object>(some: A, others: B): A & B {
  const all = {
    ...Object.getOwnPropertyDescriptors(some),
    ...Object.getOwnPropertyDescriptors(others),
  };
  return Object.defineProperties({}, all) as A & B;
}

/** Has a client ask for its credentials each time that it connects, or is duplicated. */
export function askForCredentials(
  client: Redis,
  access: Pick<ConnectOptions, "username" | "password">,
): void {
  for (const name of ["username", "password"] as const) {
    const property = { get: () => access[name], enumerable: true, configurable: true };
    Object.defineProperty(client.options, name, property);
  }
}

/** Says how commands are sent: none is sent twice, and none waits in the client for a connection. */
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

/** How long to wait before the n-th attempt in a row to connect, in milliseconds. */
export function reconnectDelayMs(attempts: number): number {
  return retryDelayMs(attempts, RETRY_MS_MAX);
}

/** Disconnects, and waits until every socket is closed; a server that hangs gets its bound for that. */
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
  // Between two attempts to connect there is no socket, and nothing ever ends.
  await within(clock, 2 * DISCONNECT_MS, ended);
}
