import { retryDelayMs, type Runtime, type Timer } from "./runtime.ts";
import type { Store } from "./store.ts";
import { ROOT_TAG, type TagsParts } from "./tags.ts";

/** Beyond this many keys, the whole cache is cleared instead, so that memory stays bounded. */
const KEYS_MAX = 10_000;
const BATCH_MAX = 500;
const RETRY_MS_MAX = 500;

/** The parts of an engine that its pending invalidations use. */
type PendingParts = Pick<TagsParts, "coherence" | "newNonce"> & { readonly runtime: Runtime };

/**
 * Invalidations that the store has not applied: kept and retried until it has.
 *
 * While any is pending, this process neither reads the store, which may answer an outdated value, nor keeps in
 * memory what it asked for before. Otherwise:
 *
 * ```text
 * 1. reader: GET b is sent
 * 2. writer: the new version of a tag is not applied, and is pending
 * 3. reader: misses b, asks for the tag's version, and gets the old one
 * 4. reader: with that version, outdated entries of the tag in memory are valid again
 * ```
 */
export class PendingInvalidations {
  readonly #store: Store;
  readonly #parts: PendingParts;
  readonly #keys = new Set<string>();
  readonly #tags = new Set<string>();
  #timer: Timer | undefined;
  #draining: Promise<void> | undefined;
  #attempts = 0;
  #closed = false;
  #underWay = 0;

  /** @param store The servers, even while memory stands in for them. */
  constructor(store: Store, parts: PendingParts) {
    this.#store = store;
    this.#parts = parts;
  }

  /** Number of pending keys and tags. */
  get size(): number {
    return this.#keys.size + this.#tags.size + this.#underWay;
  }

  /** Adds keys. */
  addKeys(keys: readonly string[]): void {
    this.#add(this.#keys, keys);
  }

  /** Adds tags. */
  addTags(tags: readonly string[]): void {
    this.#add(this.#tags, tags);
  }

  /**
   * Tries once more. Answers how many keys and tags are still not applied: they are lost, and their values live
   * until their TTL.
   */
  async close(): Promise<number> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    await this.#draining;
    await this.#drain();
    return this.size;
  }

  #add(pending: Set<string>, names: readonly string[]): void {
    for (const name of names) pending.add(name);
    if (pending.size > KEYS_MAX) {
      pending.clear();
      this.#tags.add(ROOT_TAG);
    }
    this.#parts.coherence.notePending();
    this.#schedule();
  }

  #schedule(): void {
    if (this.#closed || this.#timer !== undefined || this.#draining !== undefined) return;
    const delayMs = retryDelayMs(++this.#attempts, RETRY_MS_MAX);
    this.#timer = this.#parts.runtime.clock.after(delayMs, () => {
      this.#timer = undefined;
      this.#draining = this.#drain().finally(() => {
        this.#draining = undefined;
        if (this.size > 0) return this.#schedule();
        this.#attempts = 0;
        this.#parts.coherence.noteNonePending();
      });
    });
  }

  /** Resolves when nothing is pending, or the store has failed. */
  async #drain(): Promise<void> {
    while (this.size > 0) {
      const keys = [...this.#keys].slice(0, BATCH_MAX);
      const tags = [...this.#tags].slice(0, BATCH_MAX);
      // Removed before the command is sent: the same key may be added again meanwhile, and the success of this
      // earlier command must not remove that.
      for (const key of keys) this.#keys.delete(key);
      for (const tag of tags) this.#tags.delete(tag);
      this.#underWay = keys.length + tags.length;
      try {
        if (keys.length > 0) await this.#store.invalidate(keys);
        if (tags.length > 0) await this.#store.writeTags(tags, this.#parts.newNonce());
      } catch (_error) {
        for (const key of keys) this.#keys.add(key);
        for (const tag of tags) this.#tags.add(tag);
        return;
      } finally {
        this.#underWay = 0;
      }
    }
  }
}
