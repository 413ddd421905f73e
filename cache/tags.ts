import { LRUCache } from "lru-cache";
import type { Coherence } from "./coherence.ts";
import type { TagVersion } from "./entry.ts";
import { assertKey } from "./keys.ts";
import type { Store } from "./store.ts";

/** The tag that every entry carries: clearing the cache is giving it a new version. */
export const ROOT_TAG = "*";

/** The most tags an entry may carry. */
const TAGS_MAX = 16;

/** Tag versions held in this process. Past it the least recently used are read again. */
const HELD_MAX = 10_000;

/**
 * Checks what a caller names as tags.
 *
 * @throws {TypeError} There are too many, or one cannot be used.
 */
export function assertTags(tags: readonly string[] | undefined): void {
  if (tags === undefined) return;
  if (tags.length > TAGS_MAX) {
    throw new TypeError(`Cannot use ${tags.length} tags: at most ${TAGS_MAX}`);
  }
  for (const tag of tags) {
    assertKey(tag);
    if (tag === ROOT_TAG) throw new TypeError(`Cannot use ${ROOT_TAG} as a tag: clear() owns it`);
  }
}

/** Versions read for one look-up. `null`: the tag has none, so every entry under it is invalid. */
export type TagVersions = ReadonlyMap<string, string | null>;

/**
 * Tag versions, and what this process may believe about them.
 *
 * A tag is a random version under a key of its own. An entry records the versions it saw before its
 * load and is valid only while they are equal, so invalidating any number of entries is one write,
 * and no clocks are compared. Versions are held here while the feed is good, which saves the round
 * trip; `epoch` counts the changes, so an entry that was valid at the same epoch still is.
 */
export class Tags {
  readonly #store: Store | undefined;
  readonly #coherence: Coherence;
  readonly #newVersion: () => string;
  readonly #held = new LRUCache<string, string>({
    max: HELD_MAX,
    dispose: () => void this.#epoch++,
  });
  #epoch = 0;

  /**
   * @param store Where versions live; without one they live here.
   * @param newVersion Makes a version that nobody has made before.
   */
  constructor(store: Store | undefined, coherence: Coherence, newVersion: () => string) {
    this.#store = store;
    this.#coherence = coherence;
    this.#newVersion = newVersion;
  }

  /** Changes whenever a held version is lost or replaced. */
  get epoch(): number {
    return this.#epoch;
  }

  /** The held version of a tag, if it may be believed now. */
  held(name: string): string | undefined {
    return this.#coherence.trusted() ? this.#held.get(name) : undefined;
  }

  /**
   * Compares what an entry saw with what stands: `undefined` when a version is neither in `read` nor
   * held, and has to be read first.
   */
  current(tags: readonly TagVersion[], read?: TagVersions): boolean | undefined {
    let unknown = false;
    for (const tag of tags) {
      const version = read?.get(tag.name) ?? (read?.has(tag.name) ? null : this.held(tag.name));
      if (version === undefined) unknown = true;
      else if (version !== tag.version) return false;
    }
    return unknown ? undefined : true;
  }

  /** Reads versions from the store, and holds what the feed vouches for. */
  async read(names: readonly string[]): Promise<TagVersions> {
    const epochs = names.map((name) => this.#coherence.epoch(name));
    const versions = this.#store === undefined
      ? names.map((name) => this.#held.get(name) ?? null)
      : await this.#store.readTags(names);
    this.#hold(names, versions, epochs);
    return new Map(names.map((name, i) => [name, versions[i] ?? null]));
  }

  /** The versions of tags, in their order; tags without one are given one. For use before a load. */
  async ensure(names: readonly string[]): Promise<readonly TagVersion[]> {
    const known: TagVersion[] = [];
    for (const name of names) {
      const version = this.held(name);
      if (version === undefined) break;
      known.push({ name, version });
    }
    if (known.length === names.length) return known;
    const epochs = names.map((name) => this.#coherence.epoch(name));
    const version = this.#newVersion();
    const versions = this.#store === undefined
      ? names.map((name) => this.#held.get(name) ?? version)
      : await this.#store.createTags(names, version);
    this.#hold(names, versions, epochs);
    return names.map((name, i) => ({ name, version: versions[i] ?? version }));
  }

  /** Gives tags a new version. When it rejects, what is held here is forgotten all the same. */
  async invalidate(names: readonly string[]): Promise<void> {
    this.forget(names);
    try {
      const version = this.#newVersion();
      if (this.#store === undefined) { for (const name of names) this.#held.set(name, version); }
      else await this.#store.writeTags(names, version);
    } finally {
      // Again: a read that was sent before the write may have brought the old version since.
      if (this.#store !== undefined) this.forget(names);
    }
  }

  /** Forgets held versions, and those being read. */
  forget(names: readonly string[]): void {
    for (const name of names) {
      this.#coherence.bump(name);
      this.#held.delete(name);
    }
    this.#epoch++;
  }

  /** Forgets every held version. */
  forgetAll(): void {
    this.#held.clear();
    this.#epoch++;
  }

  #hold(
    names: readonly string[],
    versions: readonly (string | null)[],
    epochs: readonly number[],
  ): void {
    if (!this.#coherence.mayKeep()) return;
    names.forEach((name, i) => {
      const version = versions[i];
      if (typeof version !== "string" || epochs[i] !== this.#coherence.epoch(name)) return;
      if (this.#held.get(name) !== version) this.#held.set(name, version);
    });
  }
}
