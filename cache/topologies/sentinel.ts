import { AbstractConnector, type Redis } from "ioredis";
import { createConnection } from "node:net";
import type { Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { type Access, type ConnectionOptions, reconnectDelayMs } from "../redis/connection.ts";
import type { Clock, Timer } from "../runtime.ts";
import { ASK_MS, Sentinels, type SentinelsOptions } from "./sentinels.ts";
import { StandaloneConnection } from "./standalone.ts";
import { addressText, type ServerAddress } from "./url.ts";

/**
 * The server that Sentinels call the primary.
 *
 * A primary that they replace ends its connections when they tell it so. A primary that is out of their
 * reach, but not of ours, is told nothing, and goes on answering:
 *
 * ```text
 * 1. this process: is connected to a primary that the Sentinels lose
 * 2. Sentinels:    make a replica the primary, where others are sent from here on
 * 3. others:       invalidate there
 * 4. this process: reads what was invalidated, and its feed is quiet
 * ```
 *
 * So the Sentinels are asked all the time, and the client connects anew when they name another server. And a
 * Sentinel may lag behind the others:
 *
 * ```text
 * 1. Sentinel C:   hangs
 * 2. A and B:      replace the primary
 * 3. C:            goes on, and names the primary before, which was started again
 * 4. this process: asks C, connects, and reads what was invalidated at the new primary
 * ```
 *
 * So every Sentinel is asked, and the server is believed that the highest configuration epoch names.
 */
export class SentinelConnection extends StandaloneConnection {
  readonly #sentinels: Sentinels;
  readonly #connected: WeakMap<Socket, string>;
  readonly #clock: Clock;
  #timer: Timer | undefined;

  constructor(named: SentinelsOptions, access: Access, options: ConnectionOptions) {
    const sentinels = new Sentinels(named, access);
    const connected = new WeakMap<Socket, string>();
    const { clock } = options;
    super({ ...access, Connector: connectorOf({ sentinels, access, clock, connected }) }, options);
    this.#sentinels = sentinels;
    this.#connected = connected;
    this.#clock = clock;
    void this.#watch();
  }

  override async proved(): Promise<readonly Redis[]> {
    const named = addressText(await this.#sentinels.primary());
    if (this.#isAt(named)) return [this.client];
    this.#leave();
    throw new Error(`Cannot believe the server: the Sentinels call ${named} the primary`);
  }

  override close(): Promise<void> {
    this.#timer?.cancel();
    this.#sentinels.close();
    return super.close();
  }

  /** Asks, and goes on asking. Never rejects. */
  async #watch(): Promise<void> {
    this.#timer = this.#clock.after(ASK_MS, () => void this.#watch());
    try {
      const named = addressText(await this.#sentinels.primary());
      if (!this.#isAt(named)) this.#leave();
    } catch (_error) {
      // Nobody can tell of another primary: the connection is the best that is known.
    }
  }

  #isAt(named: string): boolean {
    const { stream } = this.client;
    return stream instanceof Object && this.#connected.get(stream as Socket) === named;
  }

  /** Connects anew; a client that is connecting asks the Sentinels by itself. */
  #leave(): void {
    if (this.client.status === "ready") this.client.disconnect(true);
  }
}

/** The parts of a connector. */
interface ConnectorParts {
  readonly sentinels: Sentinels;
  readonly access: Access;
  readonly clock: Clock;
  /** Notes where each socket goes. */
  readonly connected: WeakMap<Socket, string>;
}

/** Makes the class of which ioredis makes a connector for each client. */
function connectorOf(
  { sentinels, access, clock, connected }: ConnectorParts,
): new () => AbstractConnector {
  return class PrimaryConnector extends AbstractConnector {
    #wake: (() => void) | undefined;

    constructor() {
      super(access.disconnectTimeout);
    }

    override check({ role }: { readonly role?: string }): boolean {
      return role === undefined || role === "master";
    }

    /** Goes on asking until it is told to end: ioredis gives up a client whose connector rejects. */
    override async connect(emit: (type: string, error: Error) => void): Promise<Socket> {
      this.connecting = true;
      for (let attempts = 1; this.connecting; attempts++) {
        try {
          const address = await sentinels.primary();
          if (this.connecting) return this.#open(address);
        } catch (error) {
          emit("error", error instanceof Error ? error : new Error(String(error)));
          await new Promise<void>((resolve) => {
            const timer = clock.after(reconnectDelayMs(attempts), resolve);
            this.#wake = () => {
              timer.cancel();
              resolve();
            };
          });
        }
      }
      throw new Error("Connection is closed.");
    }

    override disconnect(): void {
      super.disconnect();
      this.#wake?.();
    }

    #open(address: ServerAddress): Socket {
      const socket = access.tls === undefined
        ? createConnection(address)
        : connectTls({ ...address, ...access.tls });
      connected.set(socket, addressText(address));
      socket.once("error", (error) => {
        this.firstError = error;
      });
      this.stream = socket;
      return socket;
    }
  };
}
