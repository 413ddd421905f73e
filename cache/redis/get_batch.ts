import { setImmediate } from "node:timers";

/** The most keys that are read by one command: what a slow one can hold up. */
const KEYS_MAX = 256;

/** Answers the bytes under each key, in their order; `null` where there are none. */
export type ReadKeys = (keys: readonly string[]) => Promise<readonly (Uint8Array | null)[]>;

/**
 * Gathers the reads that are asked for together into one command: a client's work per command is
 * many times what one more key costs.
 *
 * A batch is sent when the event loop has worked off what has arrived, requests of other clients
 * included. So no read waits for time to pass, and a read never joins a batch that has been sent.
 */
export class GetBatch {
  readonly #readKeys: ReadKeys;
  #open: Batch | undefined;

  constructor(readKeys: ReadKeys) {
    this.#readKeys = readKeys;
  }

  /** The bytes under a key, or `null`. Rejects with what the command rejects with. */
  async get(key: string): Promise<Uint8Array | null> {
    const { keys, replies } = this.#open ??= this.#begin();
    const at = keys.push(key) - 1;
    if (keys.length === KEYS_MAX) this.#open = undefined;
    return (await replies)[at] ?? null;
  }

  #begin(): Batch {
    const keys: string[] = [];
    const turn = new Promise<void>((resolve) => void setImmediate(resolve));
    const batch: Batch = { keys, replies: turn.then(() => this.#send(batch)) };
    return batch;
  }

  #send(batch: Batch): ReturnType<ReadKeys> {
    if (this.#open === batch) this.#open = undefined;
    return this.#readKeys(batch.keys);
  }
}

interface Batch {
  readonly keys: string[];
  readonly replies: ReturnType<ReadKeys>;
}
