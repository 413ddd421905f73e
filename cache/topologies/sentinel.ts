import { AbstractConnector, type Redis } from "ioredis";
import { createConnection } from "node:net";
import type { Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import {
  type Access,
  type ConnectionOptions,
  reconnectDelayMs,
  together,
} from "../redis/connection.ts";
import type { Clock, Timer } from "../runtime.ts";
import {
  ASK_MS,
  type NamedPrimary,
  Sentinels,
  type SentinelsOptions,
  UnreachableError,
} from "./sentinels.ts";
import { StandaloneConnection } from "./standalone.ts";
import { addressText } from "./url.ts";

/** How long a primary is believed after a question that confirmed it. */
const STANDS_MS = 2_000;
/** How long a server has to be the primary to be believed: clocks may run unevenly. */
const SETTLED_MS = STANDS_MS + 500;

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
 *
 * Processes still hear of a new primary one after the other, and the old one takes writes meanwhile:
 *
 * ```text
 * 1. Sentinels:    make a replica the primary
 * 2. B:            asks them, and reads from the new one
 * 3. A:            has not asked again yet; the old one acknowledges its delete
 * 4. B:            reads what was deleted
 * ```
 *
 * So each process believes its primary for {@linkcode STANDS_MS} after the question that confirmed it, and
 * not a moment longer; and a new one only when it has been the primary for longer than that, for then
 * nobody believes another.
 */
export class SentinelConnection extends StandaloneConnection {
  readonly #sentinels: Sentinels;
  readonly #named: WeakMap<Socket, Named>;
  readonly #options: ConnectionOptions;
  #timer: Timer | undefined;
  /** The address of the server that was confirmed last. */
  #standing = "";

  constructor(named: SentinelsOptions, access: Access, options: ConnectionOptions) {
    const { clock } = options;
    const sentinels = new Sentinels(named, access, clock);
    const sockets = new WeakMap<Socket, Named>();
    super(
      together(access, { Connector: connectorOf({ sentinels, access, clock, sockets }) }),
      options,
    );
    this.#sentinels = sentinels;
    this.#named = sockets;
    this.#options = options;
    this.client.on("ready", () => {
      const connected = this.#connected();
      if (connected === undefined) return;
      // That another server stood says nothing of this one.
      if (addressText(connected.server) !== this.#standing) options.onStands(-Infinity);
      this.#confirm(connected);
    });
    void this.#watch();
  }

  override async proved(): Promise<readonly Redis[]> {
    const name = addressText((await this.#ask()).server);
    if (this.#standing === name) return [this.client];
    throw new Error(
      `Cannot trust ${name} yet: other processes may still trust the previous primary`,
    );
  }

  override async close(): Promise<void> {
    this.#timer?.cancel();
    await Promise.all([this.#sentinels.close(), super.close()]);
  }

  /** Asks, and goes on asking. Never rejects. */
  async #watch(): Promise<void> {
    const askedAtMs = this.#options.clock.monotonicNow();
    this.#timer = this.#options.clock.after(ASK_MS, () => void this.#watch());
    try {
      await this.#ask();
    } catch (error) {
      // Nobody can tell of another primary: what stood goes on to stand.
      const connected = this.#connected();
      if (error instanceof UnreachableError && connected !== undefined) {
        if (addressText(connected.server) === this.#standing) this.#stand(askedAtMs);
      }
    }
  }

  /** Asks for the primary; leaves the server if it is another. */
  async #ask(): Promise<Named> {
    const named = await askFor(this.#sentinels, this.#options.clock);
    const connected = this.#connected();
    if (connected === undefined) {
      throw new Error("Cannot trust the server: there is no connection");
    }
    if (addressText(named.server) === addressText(connected.server)) {
      this.#confirm(named);
      return named;
    }
    // A client that is connecting asks the Sentinels by itself.
    if (this.client.status === "ready") this.client.disconnect(true);
    throw new Error(
      `Cannot trust the server: the Sentinels name ${addressText(named.server)} as the primary`,
    );
  }

  /** Believes a server that is named, once it has been the primary for long enough. */
  #confirm({ server, sinceMs, askedAtMs }: Named): void {
    // One that does not say for how long is an old one, and taken at its word.
    if (sinceMs < SETTLED_MS) return;
    const isNew = this.#standing !== addressText(server);
    this.#standing = addressText(server);
    this.#stand(askedAtMs);
    if (isNew) this.#options.onChange(); // what waits for it tries again at once
  }

  #stand(askedAtMs: number): void {
    this.#options.onStands(askedAtMs + STANDS_MS);
  }

  /** The server at the other end, as it was named when it was connected to. */
  #connected(): Named | undefined {
    const { stream, status } = this.client;
    if (status !== "ready" || !(stream instanceof Object)) return undefined;
    return this.#named.get(stream as Socket);
  }
}

/** The answer of the Sentinels, and when they were asked for it (monotonic). */
interface Named extends NamedPrimary {
  readonly askedAtMs: number;
}

async function askFor(sentinels: Sentinels, clock: Clock): Promise<Named> {
  const askedAtMs = clock.monotonicNow();
  return { ...await sentinels.primary(), askedAtMs };
}

/** The parts of a connector. */
interface ConnectorParts {
  readonly sentinels: Sentinels;
  readonly access: Access;
  readonly clock: Clock;
  /** Notes where each socket goes. */
  readonly sockets: WeakMap<Socket, Named>;
}

/** Makes the class of which ioredis makes a connector for each client. */
function connectorOf(
  { sentinels, access, clock, sockets }: ConnectorParts,
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
          const named = await askFor(sentinels, clock);
          if (this.connecting) return this.#open(named);
        } catch (error) {
          if (!this.connecting) break;
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

    #open(named: Named): Socket {
      const socket = access.tls === undefined
        ? createConnection(named.server)
        : connectTls({ ...named.server, ...access.tls });
      sockets.set(socket, named);
      socket.once("error", (error) => {
        this.firstError = error;
      });
      this.stream = socket;
      return socket;
    }
  };
}
