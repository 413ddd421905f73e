import { Redis } from "ioredis";
import type { ConnectOptions } from "./feed.ts";
import type { Clock, Timer } from "./runtime.ts";
import {
  addressText,
  type ClientEvents,
  OneServer,
  retryStrategy,
  sentinelOptions,
} from "./servers.ts";
import type { ServerAddress } from "./topology.ts";

/** How often every Sentinel is asked. They tell one another of a new primary every two seconds. */
const ASK_MS = 1_000;

/** Where Sentinels are, and what they call the primary. */
export interface Sentinels {
  readonly servers: readonly ServerAddress[];
  readonly master: string;
}

/**
 * The server that Sentinels call the primary.
 *
 * A client asks them when it connects, and a primary that they replace ends its connections when they
 * tell it so. One that is out of their reach, but not of ours, is told nothing, and goes on answering:
 *
 * ```text
 * 1. this process: is connected to a primary that the Sentinels lose
 * 2. Sentinels:    make a replica the primary, where others are sent from here on
 * 3. others:       invalidate there
 * 4. this process: reads what was invalidated, and its feed is quiet
 * ```
 *
 * So the client connects anew when a Sentinel names another server than before.
 */
export class SentinelServers extends OneServer {
  readonly #sentinels: Sentinels;
  readonly #base: ConnectOptions;

  constructor(sentinels: Sentinels, base: ConnectOptions) {
    super(sentinelOptions(sentinels, base));
    this.#sentinels = sentinels;
    this.#base = base;
  }

  override open(commandTimeoutMs: number, events: ClientEvents, clock: Clock): Redis {
    const client = super.open(commandTimeoutMs, events, clock);
    const { servers, master } = this.#sentinels;
    const watches = servers.map((server) =>
      new SentinelWatch({ ...this.#base, ...server }, {
        ...{ master, clock },
        onMoved: () => client.disconnect(true),
      })
    );
    client.once("end", () => {
      for (const watch of watches) watch.close();
    });
    return client;
  }
}

/** What a {@linkcode SentinelWatch} works with. */
interface WatchOptions {
  readonly master: string;
  readonly clock: Clock;
  /** Called when the Sentinel names another server than before. */
  readonly onMoved: () => void;
}

/** Asks one Sentinel again and again who the primary is. */
class SentinelWatch {
  readonly #client: Redis;
  readonly #options: WatchOptions;
  #named: string | undefined;
  #timer: Timer | undefined;

  constructor(
    { connectTimeout, disconnectTimeout, tls, ...server }: ConnectOptions,
    options: WatchOptions,
  ) {
    this.#options = options;
    this.#client = new Redis({
      ...{ host: server.host ?? "", port: server.port ?? 0, connectTimeout, disconnectTimeout },
      ...(tls === undefined ? {} : { tls }),
      ...{ retryStrategy, enableOfflineQueue: false, maxRetriesPerRequest: 0 },
      ...{ enableReadyCheck: false, commandTimeout: ASK_MS },
    });
    this.#client.on("error", () => {
      // The others know as well. That none can be reached is told by the client that asks them too.
    });
    void this.#askOn();
  }

  /** Ends it. */
  close(): void {
    this.#timer?.cancel();
    this.#client.disconnect();
  }

  /** Never rejects. */
  async #askOn(): Promise<void> {
    this.#timer = this.#options.clock.after(ASK_MS, () => void this.#askOn());
    try {
      const { master, onMoved } = this.#options;
      const answer = await this.#client.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", master);
      if (!Array.isArray(answer)) return; // it knows none of that name
      const named = addressText({ host: String(answer[0]), port: Number(answer[1]) });
      const moved = this.#named !== undefined && this.#named !== named;
      this.#named = named;
      if (moved) onMoved();
    } catch (_error) {
      // It is away, or hangs: asked again soon.
    }
  }
}
