import type { Buffer } from "node:buffer";
import { Redis } from "ioredis";
import {
  askForCredentials,
  commandOptions,
  type Connection,
  type ConnectionOptions,
  type ConnectOptions,
  disconnect,
  type FeedOptions,
  reconnectDelays,
} from "../redis/connection.ts";
import { Feed } from "../redis/feed.ts";
import { isOfSelect, isReadOnly } from "../redis/reply_errors.ts";
import { endSilence } from "../redis/silence.ts";

/** Shortest time between two connections that are given up for a replica, which the address may lead to for long. */
const LEFT_MS = 1_000;

/** One server: it is alone, or is the primary that Sentinels name. */
export class StandaloneConnection implements Connection {
  readonly anySlot = true;
  readonly client: Redis;
  protected readonly connect: () => ConnectOptions;
  protected readonly options: ConnectionOptions;
  #leftAtMs = -Infinity;

  /** @param connect Answers the address and credentials of the server. */
  constructor(connect: () => ConnectOptions, options: ConnectionOptions) {
    this.connect = connect;
    this.options = options;
    this.client = new Redis({
      ...connect(),
      ...commandOptions(options),
      enableAutoPipelining: true,
      // `Gather` has already batched these: a second queue would cost one more turn of the event loop.
      autoPipeliningIgnoredCommands: ["get", "mget"],
      retryStrategy: reconnectDelays(options.clock),
      reconnectOnError: (error) => {
        const nowMs = options.clock.monotonicNow();
        if (!isReadOnly(error) || nowMs - this.#leftAtMs < LEFT_MS) return false;
        this.#leftAtMs = nowMs;
        return true;
      },
    });
    askForCredentials(this.client, connect);
    endSilence(this.client, options);
    tellWhyClosed(this.client, options);
    this.client.on("error", (error) => {
      // ioredis would go on with database 0, which is another's.
      if (isOfSelect(error)) this.client.disconnect(true);
      options.onError(error);
    });
    this.client.on("ready", () => options.onConnection(true));
    this.client.on("close", () => options.onConnection(false));
  }

  primaries(): Promise<readonly Redis[]> {
    return Promise.resolve([this.client]);
  }

  proved(): Promise<readonly Redis[]> {
    return this.primaries();
  }

  follow(options: FeedOptions): Feed {
    const { clock, onRefused } = this.options;
    return new Feed(this.connect, { ...options, clock, onRefused });
  }

  close(): Promise<void> {
    return disconnect(this.client, this.options.clock);
  }
}

const CLOSES =
  "the server closes new connections without an answer; perhaps it wants TLS (rediss://)";
/** The reply of a server in protected mode, before it closes the connection. */
const DENIED = /^-(DENIED .*)/;

/** Tells why a server closes new connections, of which the client says nothing. */
function tellWhyClosed(client: Redis, { onError }: ConnectionOptions): void {
  let why: string | undefined;
  client.on("connect", () => {
    why = CLOSES;
    client.stream.once("data", (bytes: Buffer) => {
      why = DENIED.exec(bytes.toString("latin1"))?.[1];
    });
  });
  client.on("error", () => {
    if (why === CLOSES) why = undefined;
  });
  client.on("close", () => {
    if (why !== undefined) onError(new Error(why));
    why = undefined;
  });
}
