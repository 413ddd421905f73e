import { Redis } from "ioredis";
import { type ConnectionOptions, type ConnectOptions, disconnect } from "../redis/connection.ts";
import { isReplica, lifeOf } from "../redis/server_life.ts";
import type { Timer } from "../runtime.ts";
import { StandaloneConnection } from "./standalone.ts";

/** Interval at which it is asked where the address leads. */
const ASK_MS = 10_000;

/**
 * The server that an address leads to, which may be a name or a proxy.
 *
 * A connection stays with its server when the address begins to lead to another one. If both servers go on, those
 * who connected before and after do not hear of each other's invalidations, and each answers what the other has
 * changed:
 *
 * ```text
 * 1. A:        is connected to the first server
 * 2. the name: leads to the second one
 * 3. B:        starts, and connects to that
 * 4. B:        invalidates there
 * 5. A:        reads the outdated entry of the first server, until its TTL
 * ```
 *
 * So a new connection is opened now and then; if another server answers there, the client reconnects. So it does if
 * its own server follows another one by now: memory, which heard of changes from it, is dropped.
 */
export class AddressConnection extends StandaloneConnection {
  #timer: Timer | undefined;
  #other: Redis | undefined;
  #asking: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(connect: () => ConnectOptions, options: ConnectionOptions) {
    super(connect, options);
    this.#askLater();
  }

  override async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#other?.disconnect();
    await Promise.all([this.#asking, super.close()]);
  }

  #askLater(): void {
    if (this.#closed) return;
    this.#timer = this.options.clock.after(ASK_MS, () => {
      this.#asking = this.#ask().then(() => this.#askLater());
    });
  }

  /** Reconnects if the address leads to another server, or ours has become a replica. Never rejects. */
  async #ask(): Promise<void> {
    const { clock, commandTimeoutMs, onError } = this.options;
    const other = this.#other = new Redis({
      ...this.connect(),
      lazyConnect: true,
      enableOfflineQueue: false,
      enableReadyCheck: false,
      retryStrategy: () => null,
      commandTimeout: commandTimeoutMs,
    });
    let refused: unknown;
    other.on("error", (error) => refused = error);
    try {
      if (!await isReplica(this.client)) {
        await other.connect();
        // Twice: the life of a server without a `run_id` is known to the second, so one answer may be rounded up.
        if (!(await this.#differs(other) && await this.#differs(other))) return;
      }
      if (this.#closed) return;
      onError(new Error("the address leads to another primary than before"));
      this.client.disconnect(true);
    } catch {
      // Either cannot be asked, or the other is a replica. Ask again later. What refuses a new connection, such as
      // a changed password, is told while the present one lasts.
      if (refused !== undefined && this.client.status === "ready") onError(refused);
    } finally {
      await disconnect(other, clock);
      this.#other = undefined;
    }
  }

  async #differs(other: Redis): Promise<boolean> {
    const [there, here] = await Promise.all([lifeOf(other), lifeOf(this.client)]);
    return there !== here;
  }
}
