import { type Cluster, Redis } from "ioredis";
import {
  type ConnectOptions,
  DISCONNECT_MS,
  Feed,
  type FeedOptions,
  type FeedWiring,
  type Following,
} from "../redis/feed.ts";
import { type Clock, retryDelayMs } from "../runtime.ts";
import type { Credentials, ServerAddress } from "./url.ts";

/** A connection that owes an answer for as many time-outs is given up, and another one opened. */
const SILENT_COMMANDS_MAX = 4;
/** However long an outage was, a server that is back is in use within two seconds. */
const RETRY_MS_MAX = 1_000;
const CONNECT_MS_MAX = 2_000;

/** What commands are sent through: it finds the server that owns their key. */
export type Client = Redis | Cluster;

/** What a client tells. */
export interface ClientEvents {
  /** A connection failed; another attempt follows. */
  readonly onError: (error: unknown) => void;
  /** Connected, or not any more. */
  readonly onConnection: (connected: boolean) => void;
  /** One of several servers came, went, or took another's place. */
  readonly onChange: () => void;
}

/** How the servers of one topology are reached. Standalone and Sentinel differ only in an option. */
export interface Servers {
  /** Whether one command may name keys of several slots. */
  readonly anySlot: boolean;
  /** Opens a client. */
  open(commandTimeoutMs: number, events: ClientEvents, clock: Clock): Client;
  /** The servers that take writes now: all of them, or it rejects. */
  primaries(client: Client): Promise<readonly Redis[]>;
  /** Follows what those servers announce, whichever they are, until it is closed. */
  follow(client: Client, options: FeedOptions, wiring: FeedWiring): Following;
}

/** One server: it stands alone, or is the one that Sentinels call the primary. */
export class OneServer implements Servers {
  readonly anySlot = true;
  readonly #connect: ConnectOptions;

  constructor(connect: ConnectOptions) {
    this.#connect = connect;
  }

  open(commandTimeoutMs: number, { onError, onConnection }: ClientEvents, _clock: Clock): Redis {
    const client = new Redis({
      ...this.#connect,
      ...commandOptions(commandTimeoutMs),
      enableAutoPipelining: true,
      // They have waited for their turn of the event loop in the batch.
      autoPipeliningIgnoredCommands: ["get", "mget"],
      ...reconnectOptions(),
    });
    client.on("error", onError);
    client.on("ready", () => onConnection(true));
    client.on("close", () => onConnection(false));
    return client;
  }

  primaries(client: Client): Promise<readonly Redis[]> {
    return Promise.resolve(client instanceof Redis ? [client] : []);
  }

  follow(_client: Client, options: FeedOptions, wiring: FeedWiring): Following {
    return new Feed(this.#connect, options, wiring);
  }
}

/** How to connect to the server that Sentinels call the primary. */
export function sentinelOptions(
  { servers, master }: { readonly servers: readonly ServerAddress[]; readonly master: string },
  base: ConnectOptions,
): ConnectOptions {
  return {
    ...base,
    sentinels: [...servers],
    name: master,
    ...(base.tls === undefined ? {} : { enableTLSForSentinelMode: true, sentinelTLS: base.tls }),
  };
}

/** What every connection has in common. */
export function baseOptions(
  { username, password, db, tls }: Credentials,
  ca: string | undefined,
): ConnectOptions {
  return {
    connectTimeout: CONNECT_MS_MAX,
    disconnectTimeout: DISCONNECT_MS,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(db === undefined ? {} : { db }),
    ...(tls ? { tls: ca === undefined ? {} : { ca } } : {}),
  };
}

/** How commands are sent: none waits for a connection, and none is sent twice. */
export interface CommandOptions {
  readonly enableOfflineQueue: false;
  readonly autoResendUnfulfilledCommands: false;
  readonly maxRetriesPerRequest: number;
  readonly socketTimeout: number;
}

/** What every connection for commands has in common. */
export function commandOptions(commandTimeoutMs: number): CommandOptions {
  return {
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    // A connection that a firewall forgot stays open for ever and answers nothing.
    socketTimeout: SILENT_COMMANDS_MAX * commandTimeoutMs,
  };
}

/** When a client of one server connects again. */
export interface ReconnectOptions {
  readonly retryStrategy: (attempts: number) => number;
  readonly sentinelRetryStrategy: (attempts: number) => number;
  readonly reconnectOnError: (error: Error) => boolean;
}

/** What every client of one server has in common. */
export function reconnectOptions(): ReconnectOptions {
  return {
    retryStrategy,
    sentinelRetryStrategy: retryStrategy,
    // Only a replica says so: what we wrote to has been demoted.
    reconnectOnError: (error) => error.message.startsWith("READONLY"),
  };
}

/** How long to wait before the n-th attempt in a row to connect, in milliseconds. */
export function retryStrategy(attempts: number): number {
  return retryDelayMs(attempts, RETRY_MS_MAX);
}

/** `host:port`, for people and for maps. */
export function addressText({ host, port }: ServerAddress): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}
