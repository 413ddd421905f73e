/**
 * A process that shares its port with others, and its messages to its supervisor (`server/supervisor.ts`), over
 * the channel that Node's `child_process` opens.
 *
 * @module
 */
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";

/** A worker's messages: its port is open; it should get requests. */
export type WorkerMessage = "listening" | "ready";

const READY_POLL_MS = 50;

/** A worker's end of the channel. */
export class Worker implements Disposable {
  /** @throws {Error} There is no supervisor. */
  constructor() {
    if (process.send !== undefined) return;
    throw new Error("Cannot share the port: WORKERS above 1 needs `deno task start`");
  }

  /** Tells the supervisor, unless it is gone. */
  tell(message: WorkerMessage): void {
    if (process.connected) process.send?.(message, () => {});
  }

  /** Tells the supervisor once requests should be sent here. Never rejects. */
  async announce(isReady: () => Promise<boolean>): Promise<void> {
    while (process.connected) {
      // A rejection counts as false, as for `/readyz`.
      if (await isReady().catch(() => false)) return this.tell("ready");
      await delay(READY_POLL_MS, undefined, { ref: false });
    }
  }

  /** Closes the channel, which would otherwise keep the process alive. */
  [Symbol.dispose](): void {
    if (process.connected) process.disconnect();
  }
}
