import { setImmediate } from "node:timers";

/** Options of a {@linkcode Gather}. */
export interface GatherOptions<Item, Reply> {
  /** Sends items as one command. Answers a reply for each, in their order. */
  readonly send: (items: readonly Item[]) => Promise<readonly Reply[]>;
  /** The most items of one command: what a slow command can hold up. 1: each has a command of its own. */
  readonly itemsMax: number;
  /** Whether items wait until the command before has been answered, so that more of them come together. */
  readonly waits?: boolean;
}

interface Batch<Item, Reply> {
  readonly items: Item[];
  readonly replies: Promise<readonly Reply[]>;
}

/**
 * Gathers what is asked for together into one command: a client's work per command is many times what one
 * more key costs.
 *
 * A batch is sent when the event loop has worked off what has arrived, requests of other clients included.
 * So nothing waits for time to pass, and nothing joins a batch that has been sent.
 */
export class Gather<Item, Reply> {
  readonly #options: GatherOptions<Item, Reply>;
  #open: Batch<Item, Reply> | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: GatherOptions<Item, Reply>) {
    this.#options = options;
  }

  /** Sends an item with those of the same turn. `undefined`: the reply to it is missing. */
  async ask(item: Item): Promise<Reply | undefined> {
    const { send, itemsMax } = this.#options;
    if (itemsMax === 1) return (await send([item]))[0];
    const { items, replies } = this.#open ??= this.#begin();
    const at = items.push(item) - 1;
    if (items.length === itemsMax) this.#open = undefined;
    return (await replies)[at];
  }

  #begin(): Batch<Item, Reply> {
    const { send, waits } = this.#options;
    const items: Item[] = [];
    const turn = new Promise<void>((resolve) => void setImmediate(resolve));
    const ready = waits ? Promise.all([turn, this.#last]) : turn;
    const replies = ready.then(() => {
      if (this.#open === batch) this.#open = undefined;
      return send(items);
    });
    if (waits) this.#last = replies.catch(() => {});
    const batch: Batch<Item, Reply> = { items, replies };
    return batch;
  }
}
