import { AbstractConnector, type Redis } from "ioredis";
import { createConnection } from "node:net";
import type { Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import {
  type Access,
  type ConnectionOptions,
  DISCONNECT_MS,
  reconnectDelays,
} from "../redis/connection.ts";
import type { Clock, Timer } from "../runtime.ts";
import {
  type NamedPrimary,
  Sentinels,
  type SentinelsOptions,
  UnnamedPrimaryError,
  UnreachableError,
} from "./sentinels.ts";
import { StandaloneConnection } from "./standalone.ts";
import { addressText, type ServerAddress } from "./url.ts";

/** Time for which a primary is trusted after a question that confirmed it. */
const CONFIRMED_MS = 1_000;
/** Interval of the questions: several within that time, as one may be answered late. */
const ASK_MS = CONFIRMED_MS / 4;
/** Time for which a server must have been the primary before it is trusted; longer, since clocks run unevenly. */
const SETTLED_MS = CONFIRMED_MS + 250;

/**
 * The server that the Sentinels call the primary.
 *
 * A primary that the Sentinels replace closes its connections when they tell it. If they cannot reach it, but
 * this process can, it keeps answering:
 *
 * ```text
 * 1. this process: is connected to a primary that the Sentinels lose
 * 2. Sentinels:    make a replica the primary, and send others there
 * 3. others:       invalidate there
 * 4. this process: reads outdated entries, and its feed announces nothing
 * ```
 *
 * So the Sentinels are asked continuously, and the client reconnects when they name another server. But a
 * Sentinel may lag behind the others:
 *
 * ```text
 * 1. Sentinel C:   hangs
 * 2. A and B:      replace the primary
 * 3. C:            continues, and names the former primary, which was restarted
 * 4. this process: asks C, connects, and reads entries that were invalidated on the new primary
 * ```
 *
 * So every Sentinel is asked, and the server with the highest configuration epoch is trusted.
 *
 * Still, processes hear of a new primary one after the other, and the old one accepts writes meanwhile:
 *
 * ```text
 * 1. Sentinels:    make a replica the primary
 * 2. B:            asks them, and reads from the new one
 * 3. A:            has not asked again yet; the old one acknowledges its delete
 * 4. B:            reads the deleted entry
 * ```
 *
 * So each process trusts its primary only for {@linkcode CONFIRMED_MS} after the question that confirmed it, and a
 * new primary only when it has been one for longer than that: by then no process trusts another.
 */
export class SentinelConnection extends StandaloneConnection {
  readonly #sentinels: Sentinels;
  readonly #named: WeakMap<Socket, NamedPrimary>;
  #timer: Timer | undefined;
  /** The confirmed primary, until the Sentinels name a newer one. */
  #confirmed: NamedPrimary | undefined;

  constructor(named: SentinelsOptions, access: () => Access, options: ConnectionOptions) {
    const { clock } = options;
    const sentinels = new Sentinels(named, access, clock);
    const sockets = new WeakMap<Socket, NamedPrimary>();
    const Connector = connectorOf(sentinels, sockets, access, clock);
    super(() => ({ ...access(), Connector }), options);
    this.#sentinels = sentinels;
    this.#named = sockets;
    this.client.on("ready", () => {
      const connected = this.#connected();
      if (connected === undefined) return;
      // The confirmation of another server does not hold for this one.
      if (!this.#isConfirmed(connected.server)) options.onConfirmed(-Infinity);
      this.#confirm(connected);
    });
    void this.#watch();
  }

  override async proved(): Promise<readonly Redis[]> {
    const { server } = await this.#ask();
    if (this.#isConfirmed(server)) return [this.client];
    throw new Error(
      `Cannot trust ${
        addressText(server)
      } yet: other processes may still trust the previous primary`,
    );
  }

  override async close(): Promise<void> {
    this.#timer?.cancel();
    await Promise.all([this.#sentinels.close(), super.close()]);
  }

  /** Asks, again and again. Never rejects. */
  async #watch(): Promise<void> {
    const askedAtMs = this.options.clock.monotonicNow();
    this.#timer = this.options.clock.after(ASK_MS, () => void this.#watch());
    try {
      await this.#ask();
    } catch (error) {
      const connected = this.#connected();
      if (connected === undefined) return;
      const isUnreachable = error instanceof UnreachableError;
      // Sentinels that refuse to name the primary may replace it. If none can be reached, the confirmed one remains.
      if (isUnreachable && this.#isConfirmed(connected.server)) this.#trustFrom(askedAtMs);
      // Nobody would notice until the primary fails, too.
      if (isUnreachable || error instanceof UnnamedPrimaryError) this.options.onError(error);
    }
  }

  /** Asks for the primary; disconnects from the server if it is another. */
  async #ask(): Promise<NamedPrimary> {
    const named = await this.#sentinels.primary();
    const connected = this.#connected();
    if (connected === undefined) {
      throw new Error("Cannot trust the server: there is no connection");
    }
    if (addressText(named.server) === addressText(connected.server)) {
      this.#confirm(named);
      return named;
    }
    // While it connects, the client asks the Sentinels itself.
    if (this.client.status === "ready") this.client.disconnect(true);
    throw new Error(
      `Cannot trust the server: the Sentinels name ${addressText(named.server)} as the primary`,
    );
  }

  /** Trusts a named server once it has been the primary for long enough. */
  #confirm(named: NamedPrimary): void {
    // A Sentinel that learns of a trusted primary later, or restarts, does not make it a new one.
    const isNew = !this.#isConfirmed(named.server) || this.#confirmed?.epoch !== named.epoch;
    // A time below this means a new primary. An old server that reports no time is trusted at once.
    if (isNew && named.sinceMs < SETTLED_MS) {
      this.#confirmed = undefined;
      return;
    }
    this.#confirmed = named;
    this.#trustFrom(named.askedAtMs);
    if (isNew) this.options.onChange(); // work that waits for it retries at once
  }

  #isConfirmed(server: ServerAddress): boolean {
    return this.#confirmed !== undefined &&
      addressText(this.#confirmed.server) === addressText(server);
  }

  #trustFrom(askedAtMs: number): void {
    this.options.onConfirmed(askedAtMs + CONFIRMED_MS);
  }

  /** The server at the other end, as the Sentinels named it at the time of connecting. */
  #connected(): NamedPrimary | undefined {
    const { stream, status } = this.client;
    if (status !== "ready" || !(stream instanceof Object)) return undefined;
    return this.#named.get(stream as Socket);
  }
}

/**
 * Makes the class from which ioredis makes each client's connector.
 *
 * @param sockets Records which server each socket connects to.
 */
function connectorOf(
  sentinels: Sentinels,
  sockets: WeakMap<Socket, NamedPrimary>,
  access: () => Access,
  clock: Clock,
): new () => AbstractConnector {
  return class PrimaryConnector extends AbstractConnector {
    #wake: (() => void) | undefined;

    constructor() {
      super(DISCONNECT_MS);
    }

    override check({ role }: { readonly role?: string }): boolean {
      return role === undefined || role === "master";
    }

    /** Keeps asking until it is told to end: ioredis gives up a client whose connector rejects. */
    override async connect(emit: (type: string, error: Error) => void): Promise<Socket> {
      this.connecting = true;
      const delayMs = reconnectDelays(clock);
      while (this.connecting) {
        try {
          const named = await sentinels.primary();
          if (this.connecting) return this.#open(named);
        } catch (error) {
          if (!this.connecting) break;
          emit("error", error instanceof Error ? error : new Error(String(error)));
          await new Promise<void>((resolve) => {
            const timer = clock.after(delayMs(), resolve);
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

    #open(named: NamedPrimary): Socket {
      const { tls } = access();
      const socket = tls === undefined
        ? createConnection(named.server)
        : connectTls({ ...named.server, ...tls });
      sockets.set(socket, named);
      socket.once("error", (error) => {
        this.firstError = error;
      });
      this.stream = socket;
      return socket;
    }
  };
}
