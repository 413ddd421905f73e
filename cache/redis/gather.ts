import { setImmediate } from "node:timers";
import type { Clock, Timer } from "../runtime.ts";

/** Options of a {@linkcode Gather}. */
export interface GatherOptions<Item, Reply> {
  /** Sends items as one command. Answers one reply for each, in their order. */
  readonly send: (items: readonly Item[]) => Promise<readonly Reply[]>;
  /** Limit of items in one command, which bounds the delay by a slow one. 1: each item has its own command. */
  readonly itemsMax: number;
  /** Longest wait for {@linkcode Gather.flush} of items whose reply is not awaited. Default: this turn only. */
  readonly delay?: { readonly clock: Clock; readonly ms: number };
}

interface Batch<Item, Reply> {
  readonly items: Item[];
  readonly replies: Promise<readonly Reply[]>;
  /** Sends it once. */
  readonly send: () => void;
}

/**
 * Gathers simultaneous items into one command: a command costs a client many times as much as one more key in
 * it.
 *
 * A batch is sent once the event loop has handled everything that has arrived, other clients' requests included.
 * So without `delay` nothing waits for a timer, and nothing joins a batch that has been sent.
 */
export class Gather<Item, Reply> {
  readonly #options: GatherOptions<Item, Reply>;
  #open: Batch<Item, Reply> | undefined;

  constructor(options: GatherOptions<Item, Reply>) {
    this.#options = options;
  }

  /** Sends an item together with those of the same turn, and answers its reply. */
  async ask(item: Item): Promise<Reply> {
    const { send, itemsMax } = this.#options;
    const batch = itemsMax === 1 ? undefined : this.#open ??= this.#begin();
    const at = batch === undefined ? 0 : batch.items.push(item) - 1;
    if (batch?.items.length === itemsMax) batch.send();
    const reply = (await (batch?.replies ?? send([item])))[at];
    if (reply === undefined) throw new Error("Cannot read the reply of Redis: it is too short");
    return reply;
  }

  /** Sends waiting items: another command is about to be sent, and one write takes both. */
  flush(): void {
    this.#open?.send();
  }

  #begin(): Batch<Item, Reply> {
    const { send, delay } = this.#options;
    const { promise: replies, resolve } = Promise.withResolvers<readonly Reply[]>();
    const items: Item[] = [];
    let timer: Timer | undefined;
    const batch: Batch<Item, Reply> = {
      items,
      replies,
      send: () => {
        if (this.#open !== batch) return;
        this.#open = undefined;
        timer?.cancel();
        resolve(send(items));
      },
    };
    if (delay === undefined) setImmediate(batch.send);
    else timer = delay.clock.after(delay.ms, batch.send);
    return batch;
  }
}
