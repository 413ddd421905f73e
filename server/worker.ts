/**
 * A process that shares its port with others: what it and its supervisor (`server/supervisor.ts`) say to
 * each other, over the channel that Node's `child_process` opens.
 *
 * @module
 */
import process from "node:process";

/** What a worker tells: it listens, it should get requests, it answers with `Connection: close`. */
export type WorkerMessage = "listening" | "ready" | "draining";

/** What a worker is told: have clients go elsewhere. What stops it is SIGTERM. */
export const DRAIN = "drain";

/** How often a worker asks itself whether it is ready. */
const READY_POLL_MS = 50;
/** How often it looks whether the supervisor is still there. */
const PARENT_POLL_MS = 500;

type Handler = Deno.ServeHandler;

/** The worker's end of the channel. */
export class Worker implements Disposable {
  readonly #onOrphaned: () => void;
  readonly #parentTimer: ReturnType<typeof setInterval>;
  #draining = false;
  #closed = false;

  /**
   * @param onOrphaned Called when the supervisor is gone: nobody would stop this process.
   * @throws {Error} There is no supervisor.
   */
  constructor(onOrphaned: () => void) {
    if (process.send === undefined) {
      throw new Error("Cannot share the port: WORKERS above 1 needs `deno task start`");
    }
    this.#onOrphaned = onOrphaned;
    process.on("message", this.#onMessage);
    process.on("disconnect", this.#onDisconnect);
    // Deno may miss that the channel ends: seen once, and the process stayed for good.
    const parent = Deno.ppid;
    this.#parentTimer = setInterval(() => {
      if (Deno.ppid !== parent) this.#onDisconnect();
    }, PARENT_POLL_MS);
    Deno.unrefTimer(this.#parentTimer);
  }

  /**
   * Answers as `handler` does, and once told to drain asks each client to reconnect: with new
   * connections kept away from here, it then reaches another worker.
   */
  around(handler: Handler): Handler {
    // Both by name: gathering them costs every request, and Deno gives no more than are named.
    return (request, info) =>
      this.#draining ? closing(handler(request, info)) : handler(request, info);
  }

  /** Tells the supervisor that the port is open. */
  listening(): void {
    this.#tell("listening");
  }

  /** Tells the supervisor once requests should be sent here. Never rejects. */
  async announce(isReady: () => Promise<boolean>): Promise<void> {
    while (!this.#closed) {
      // A rejection counts as no, as it does for `/readyz`.
      if (await isReady().catch(() => false)) return this.#tell("ready");
      await new Promise<void>((resolve) => {
        Deno.unrefTimer(setTimeout(resolve, READY_POLL_MS));
      });
    }
  }

  /** Closes the channel, which else keeps the process alive. */
  [Symbol.dispose](): void {
    clearInterval(this.#parentTimer);
    if (this.#closed) return;
    this.#closed = true;
    process.off("message", this.#onMessage);
    process.off("disconnect", this.#onDisconnect);
    if (process.connected) process.disconnect();
  }

  readonly #onMessage = (message: unknown): void => {
    if (message !== DRAIN) return;
    this.#draining = true;
    this.#tell("draining");
  };

  readonly #onDisconnect = (): void => {
    clearInterval(this.#parentTimer);
    if (this.#closed) return;
    this.#closed = true;
    this.#onOrphaned();
  };

  /** That the supervisor is gone is told by the channel's end, and there only. */
  #tell(message: WorkerMessage): void {
    if (!this.#closed && process.connected) process.send?.(message, () => {});
  }
}

async function closing(answering: Response | Promise<Response>): Promise<Response> {
  const response = await answering;
  response.headers.set("connection", "close");
  return response;
}
