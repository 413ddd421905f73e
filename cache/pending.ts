import type { Coherence } from "./coherence.ts";
import { retryDelayMs, type Runtime, type Timer } from "./runtime.ts";
import type { Store } from "./store.ts";
import { ROOT_TAG } from "./tags.ts";

/** Past this many keys a clear is owed instead: bounded memory, and never less is invalidated. */
const KEYS_MAX = 10_000;
const BATCH_MAX = 500;
const RETRY_MS_MAX = 500;

/**
 * Invalidations that the store has not taken: kept, and tried again until it does.
 *
 * While any is owed, this process neither reads the store, which may answer what was invalidated, nor
 * keeps in memory what was asked for before:
 *
 * ```text
 * 1. reader: GET b is sent
 * 2. writer: the new version of a tag is not taken, and is owed
 * 3. reader: misses b, asks for the tag's version, is answered the old one
 * 4. reader: by that version, what memory holds under the tag is valid again
 * ```
 */
export class PendingInvalidations {
  readonly #store: Store;
  readonly #coherence: Coherence;
  readonly #runtime: Runtime;
  readonly #newVersion: () => string;
  readonly #keys = new Set<string>();
  readonly #tags = new Set<string>();
  #timer: Timer | undefined;
  #draining: Promise<void> | undefined;
  #attempts = 0;
  #closed = false;
  #underWay = 0;

  constructor(
    store: Store,
    coherence: Coherence,
    wiring: { readonly runtime: Runtime; readonly newVersion: () => string },
  ) {
    this.#store = store;
    this.#coherence = coherence;
    this.#runtime = wiring.runtime;
    this.#newVersion = wiring.newVersion;
  }

  /** Keys and tags that are owed. */
  get size(): number {
    return this.#keys.size + this.#tags.size + this.#underWay;
  }

  /** Owes keys. */
  addKeys(keys: readonly string[]): void {
    this.#owe(this.#keys, keys);
  }

  /** Owes tags. */
  addTags(tags: readonly string[]): void {
    this.#owe(this.#tags, tags);
  }

  /**
   * Tries once more, and no more. Answers how many keys and tags the store has not taken: they are lost to
   * it, and their time to live is the backstop.
   */
  async close(): Promise<number> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    await this.#draining;
    await this.#drain();
    return this.size;
  }

  #owe(owed: Set<string>, names: readonly string[]): void {
    for (const name of names) owed.add(name);
    if (owed.size > KEYS_MAX) {
      owed.clear();
      this.#tags.add(ROOT_TAG);
    }
    this.#coherence.owe();
    this.#schedule();
  }

  #schedule(): void {
    if (this.#closed || this.#timer !== undefined || this.#draining !== undefined) return;
    const delayMs = retryDelayMs(++this.#attempts, RETRY_MS_MAX);
    this.#timer = this.#runtime.clock.after(delayMs, () => {
      this.#timer = undefined;
      this.#draining = this.#drain().finally(() => {
        this.#draining = undefined;
        if (this.size > 0) return this.#schedule();
        this.#attempts = 0;
        this.#coherence.settle();
      });
    });
  }

  /** Resolves when nothing is owed, or the store has refused. */
  async #drain(): Promise<void> {
    while (this.size > 0) {
      const keys = [...this.#keys].slice(0, BATCH_MAX);
      const tags = [...this.#tags].slice(0, BATCH_MAX);
      // Taken out before the command is sent: the same key may be owed again while it is under way,
      // and that later debt must not be struck off by this earlier command's success.
      for (const key of keys) this.#keys.delete(key);
      for (const tag of tags) this.#tags.delete(tag);
      this.#underWay = keys.length + tags.length;
      try {
        if (keys.length > 0) await this.#store.invalidate(keys);
        if (tags.length > 0) await this.#store.writeTags(tags, this.#newVersion());
      } catch (_error) {
        // The debt stands.
        for (const key of keys) this.#keys.add(key);
        for (const tag of tags) this.#tags.add(tag);
        return;
      } finally {
        this.#underWay = 0;
      }
    }
  }
}
