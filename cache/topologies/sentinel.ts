import { Redis } from "ioredis";
import { isIPv4 } from "node:net";
import { type Access, type ConnectionOptions, reconnectDelayMs } from "../redis/connection.ts";
import type { Clock, Timer } from "../runtime.ts";
import { StandaloneConnection } from "./standalone.ts";
import { addressText, type ServerAddress } from "./url.ts";

/** How often every Sentinel is asked. They tell one another of a new primary every two seconds. */
const ASK_MS = 1_000;

const DISAGREEMENTS_MAX = 3;

/** The addresses of Sentinels, and their name for the primary. */
export interface Sentinels {
  readonly servers: readonly ServerAddress[];
  readonly master: string;
}

/**
 * The server that Sentinels call the primary.
 *
 * A client asks them when it connects, and a primary that they replace ends its connections when they
 * tell it so. A primary that is out of their reach, but not of ours, is told nothing, and goes on answering:
 *
 * ```text
 * 1. this process: is connected to a primary that the Sentinels lose
 * 2. Sentinels:    make a replica the primary, where others are sent from here on
 * 3. others:       invalidate there
 * 4. this process: reads what was invalidated, and its feed is quiet
 * ```
 *
 * So the Sentinels are asked all the time, and the client connects anew when most of them name another
 * server.
 */
export class SentinelConnection extends StandaloneConnection {
  readonly #watch: SentinelWatch;

  constructor(sentinels: Sentinels, access: Access, options: ConnectionOptions) {
    const { servers, master } = sentinels;
    const { tls } = access;
    super({
      ...access,
      sentinels: [...servers],
      name: master,
      ...(tls === undefined ? {} : { enableTLSForSentinelMode: true, sentinelTLS: tls }),
    }, options);
    this.#watch = new SentinelWatch(sentinels, {
      access,
      client: this.client,
      clock: options.clock,
    });
  }

  override close(): Promise<void> {
    this.#watch.close();
    return super.close();
  }
}

/** The parts of a {@linkcode SentinelWatch}. */
interface WatchWiring {
  readonly access: Access;
  /** The client that is connected to the primary. */
  readonly client: Redis;
  readonly clock: Clock;
}

/** Asks Sentinels again and again who the primary is. */
class SentinelWatch {
  readonly #master: string;
  readonly #asked: readonly Redis[];
  readonly #wiring: WatchWiring;
  /** The primary that a majority of Sentinels named and that we are connected to. */
  #known: string | undefined;
  /** How often in a row a majority named another server than the first that we were connected to. */
  #disagreements = 0;
  #timer: Timer | undefined;

  constructor({ servers, master }: Sentinels, wiring: WatchWiring) {
    this.#master = master;
    this.#wiring = wiring;
    this.#asked = servers.map((server) => connect(server, wiring.access));
    void this.#askOn();
  }

  /** Ends it. */
  close(): void {
    this.#timer?.cancel();
    for (const sentinel of this.#asked) sentinel.disconnect();
  }

  /** Never rejects. */
  async #askOn(): Promise<void> {
    const { client, clock } = this.#wiring;
    this.#timer = clock.after(ASK_MS, () => void this.#askOn());
    const named = mostNamed(await Promise.all(this.#asked.map((each) => this.#ask(each))));
    // While it connects, it asks them itself.
    if (named === undefined || named === this.#known || client.status !== "ready") return;
    const { remoteAddress: host, remotePort: port } = client.stream;
    const connected = host !== undefined && port !== undefined && addressText({ host, port });
    const comparable = isIPv4(named.slice(0, named.lastIndexOf(":")));
    const first = this.#known === undefined;
    // A host's name says nothing of the address behind it: only that it is another name than before.
    if (named === connected || !comparable) this.#known = named;
    if (named === connected || (first && !comparable)) return;
    // At start the majority may lag behind the Sentinel that the client has asked. Reconnect only after it
    // has disagreed three times in a row.
    if (!first || ++this.#disagreements > DISAGREEMENTS_MAX) client.disconnect(true);
  }

  /** `undefined`: it is away, hangs, or knows none of that name. */
  async #ask(sentinel: Redis): Promise<string | undefined> {
    try {
      const answer = await sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", this.#master);
      if (!Array.isArray(answer)) return undefined;
      return addressText({ host: String(answer[0]), port: Number(answer[1]) });
    } catch (_error) {
      return undefined;
    }
  }
}

function connect(
  server: ServerAddress,
  { connectTimeout, disconnectTimeout, tls }: Access,
): Redis {
  const sentinel = new Redis({
    ...{ ...server, connectTimeout, disconnectTimeout, retryStrategy: reconnectDelayMs },
    ...(tls === undefined ? {} : { tls }),
    ...{ enableOfflineQueue: false, enableReadyCheck: false, maxRetriesPerRequest: 0 },
    commandTimeout: ASK_MS,
  });
  sentinel.on("error", () => {
    // The others know as well. That none can be reached is told by the client that asks them too.
  });
  return sentinel;
}

/** The address that more than half of all have named. */
function mostNamed(answers: readonly (string | undefined)[]): string | undefined {
  return answers.find((answer) =>
    answer !== undefined && 2 * answers.filter((each) => each === answer).length > answers.length
  );
}
