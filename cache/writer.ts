import type { Invalidation } from "./changes.ts";
import { isTooLarge, type Loads, taggedNames, VALUE_BYTES_MAX } from "./loads.ts";
import type { EntryOptions } from "./options.ts";
import type { EngineParts } from "./parts.ts";
import { ROOT_TAG } from "./tags.ts";
import { UnderWay } from "./under_way.ts";

/**
 * The write path of this process.
 *
 * Each invalidation drops the key here twice, before the store is told and after it has answered:
 *
 * ```text
 * 1. writer: drops the key here
 * 2. reader: GET key is sent, reads the old value, installs it here
 * 3. writer: UNLINK, acknowledged
 * 4. reader: hits the old value here, until the feed announces step 3
 * ```
 */
export class Writer {
  readonly #parts: EngineParts;
  readonly #loads: Loads;
  readonly #underWay = new UnderWay<Promise<void>>();

  constructor(parts: EngineParts, loads: Loads) {
    this.#parts = parts;
    this.#loads = loads;
  }

  /**
   * Stores a value and ends the lease of any running load.
   *
   * @throws {TypeError} The value has no JSON form, or a derived tag cannot be used.
   * @throws {RangeError} The value is too large, or a duration is not a number.
   * @throws The error of `tagsOf`.
   */
  async set<T>(key: string, value: T, options: EntryOptions<T, unknown>): Promise<Invalidation> {
    const { store, tags, pending, runtime, keeps } = this.#parts;
    const untagged = this.#loads.entryOf(key, value, { options, costMs: 0 });
    if (isTooLarge(untagged)) {
      throw new RangeError(
        `Cannot store ${key}: its JSON takes more than ${VALUE_BYTES_MAX} bytes`,
      );
    }
    const names = taggedNames(value, options);
    this.drop([key]);
    const outcome = await this.#apply(async () => {
      // Without the tags' versions the value cannot be stored, but the old value must still be removed.
      const versions = await Promise.resolve(tags.ensure(names)).catch(() => undefined);
      const isKept = untagged.staleUntilMs > runtime.clock.now() && keeps(names);
      if (versions && isKept) await store.set(key, { ...untagged, tags: versions });
      else await store.invalidate([key]);
    }, () => pending.addKeys([key]));
    if (outcome === "pending" || store.source === "redis") this.drop([key]);
    return outcome;
  }

  /** Invalidates keys. */
  async delete(keys: readonly string[]): Promise<Invalidation> {
    const { store, pending, counters, emit } = this.#parts;
    counters.invalidations += keys.length;
    this.drop(keys);
    const outcome = await this.#apply(() => store.invalidate(keys), () => pending.addKeys(keys));
    this.drop(keys);
    emit({ type: "invalidate", keys, pending: outcome === "pending" });
    return outcome;
  }

  /** Ends the fresh life of keys. If the store does not apply it, the keys are deleted later. */
  async expire(keys: readonly string[]): Promise<Invalidation> {
    const { store, pending } = this.#parts;
    const drop = () => store.source === "redis" ? this.drop(keys) : this.#loads.detach(keys);
    drop();
    const outcome = await this.#apply(() => store.expire(keys), () => pending.addKeys(keys));
    if (outcome === "applied") drop();
    else this.drop(keys);
    return outcome;
  }

  /** Invalidates the entries of tags. */
  async invalidateTags(names: readonly string[]): Promise<Invalidation> {
    const outcome = await this.#renew(names);
    this.#parts.emit({ type: "invalidate-tags", tags: names, pending: outcome === "pending" });
    return outcome;
  }

  /** Invalidates everything. */
  async clear(): Promise<Invalidation> {
    this.dropAll();
    const outcome = await this.#renew([ROOT_TAG]);
    this.dropAll();
    this.#parts.emit({ type: "clear", pending: outcome === "pending" });
    return outcome;
  }

  /** Resolves once every call so far is applied or pending. */
  async settled(): Promise<void> {
    await Promise.all(this.#underWay.all());
  }

  /** Drops keys here: from memory, and for reads and loads that are running. */
  drop(keys: readonly string[]): void {
    this.#parts.memory.drop(keys);
    this.#loads.detach(keys);
  }

  /** Drops everything here. */
  dropAll(): void {
    this.#parts.memory.dropAll();
    this.#loads.detachAll();
  }

  /** Gives tags a new version. */
  #renew(names: readonly string[]): Promise<Invalidation> {
    const { tags, pending } = this.#parts;
    return this.#apply(() => tags.invalidate(names), () => pending.addTags(names));
  }

  /** Writes to the store. If that fails, it is unknown whether the store took it, and `defer` makes it pending. */
  async #apply(write: () => Promise<void>, defer: () => void): Promise<Invalidation> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const place = this.#underWay.add(promise);
    try {
      await write();
      return "applied";
    } catch (_error) {
      defer();
      return "pending";
    } finally {
      this.#underWay.delete(place);
      resolve();
    }
  }
}
