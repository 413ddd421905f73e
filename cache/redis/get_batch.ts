import { setImmediate } from "node:timers";
import type { Client } from "./connection.ts";
import type { Pipeline } from "./pipeline.ts";
import { isWrongType } from "./reply_errors.ts";

/** The most keys that are read by one command: what a slow command can hold up. */
const KEYS_MAX = 256;

/**
 * Gathers the reads that are asked for together into one command: a client's work per command is
 * many times what one more key costs.
 *
 * A batch is sent when the event loop has worked off what has arrived, requests of other clients
 * included. So no read waits for time to pass, and a read never joins a batch that has been sent.
 */
export class GetBatch {
  readonly #client: Client;
  readonly #pipeline: Pipeline;
  #open: Batch | undefined;

  constructor(client: Client, pipeline: Pipeline) {
    this.#client = client;
    this.#pipeline = pipeline;
  }

  /** The bytes under a key, or `null`. A key of a foreign type reads as `null` or as empty bytes. */
  async get(key: string): Promise<Uint8Array | null> {
    const { keys, replies } = this.#open ??= this.#begin();
    const at = keys.push(key) - 1;
    if (keys.length === KEYS_MAX) this.#open = undefined;
    return (await replies)[at] ?? null;
  }

  #begin(): Batch {
    const keys: string[] = [];
    const turn = new Promise<void>((resolve) => void setImmediate(resolve));
    const replies = turn.then(() => {
      if (this.#open === batch) this.#open = undefined;
      const [first = ""] = keys;
      return keys.length === 1
        ? readKey(this.#client, this.#pipeline, first).then((bytes) => [bytes])
        : this.#pipeline.send("mget", () => this.#client.mgetBuffer(keys));
    });
    const batch: Batch = { keys, replies };
    return batch;
  }
}

/** Reads the bytes under a key, or `null`. A key of a foreign type reads as empty bytes. */
export async function readKey(
  client: Client,
  pipeline: Pipeline,
  key: string,
): Promise<Uint8Array | null> {
  try {
    return await pipeline.send("get", () => client.getBuffer(key));
  } catch (error) {
    if (isWrongType(error)) return new Uint8Array(0);
    throw error;
  }
}

interface Batch {
  readonly keys: string[];
  readonly replies: Promise<readonly (Uint8Array | null)[]>;
}
