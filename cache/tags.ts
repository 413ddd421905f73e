import { LRUCache } from "lru-cache";
import type { Coherence } from "./coherence.ts";
import { TAGS_MAX, type TagVersion } from "./entry.ts";
import { assertKey } from "./keys.ts";
import type { Store } from "./store.ts";

/** The tag that every entry carries: clearing the cache is giving it a new version. */
export const ROOT_TAG = "*";

/** Versions that are held of tags that no entry in memory carries. */
const SPARE_MAX = 10_000;
/** Bytes that a held tag takes besides its two texts: measured, see the test of the memory bound. */
const TAG_OVERHEAD_BYTES = 180;

const ROOT_ONLY: readonly string[] = [ROOT_TAG];

/**
 * KEYS: tags. ARGV: a version for each. Gives it to those that have none, and answers the versions that stand.
 *
 * One step: two processes that both thought the tag their own would not share the leases under it. `SET NX
 * GET` needs Redis 7. `pcall`, because a foreign type under our key must read as "no version".
 */
export const CREATE_TAG_LUA = `
local replies = {}
for i, key in ipairs(KEYS) do
  local standing = redis.pcall('GET', key)
  if type(standing) ~= 'string' then
    redis.call('SET', key, ARGV[i])
    standing = ARGV[i]
  end
  replies[i] = standing
end
return replies
`;

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
  for (const tag of tags) assertTag(tag);
}

/** @throws {TypeError} The tag cannot be used. */
export function assertTag(tag: string): void {
  assertKey(tag);
  if (tag === ROOT_TAG) throw new TypeError(`Cannot use ${ROOT_TAG} as a tag: clear() owns it`);
}

/** The tags of an entry: the root tag of every entry, and its own. */
export function tagNames({ tags }: { readonly tags?: readonly string[] }): readonly string[] {
  return tags === undefined || tags.length === 0 ? ROOT_ONLY : [ROOT_TAG, ...tags];
}

/** Versions read for one look-up. `null`: the tag has none, so every entry under it is invalid. */
export type TagVersions = ReadonlyMap<string, string | null>;

/** A version of a tag that this process holds: one object, which all its entries in memory share. */
export interface HeldTag extends TagVersion {
  /** Whether it is the version that stands, as far as this process knows. */
  readonly stands: boolean;
}

interface CountedTag extends HeldTag {
  stands: boolean;
  /** Entries in memory that carry it. */
  entries: number;
}

/**
 * The tag versions that this process believes: all that entries in memory carry, for as long as they do,
 * and the most recently used of the others.
 */
export class HeldTags {
  readonly #coherence: Coherence;
  readonly #carried = new Map<string, CountedTag>();
  readonly #spare = new LRUCache<string, CountedTag>({ max: SPARE_MAX });
  #bytes = 0;
  #epoch = 0;

  constructor(coherence: Coherence) {
    this.#coherence = coherence;
  }

  /** Changes whenever a held version is lost or replaced. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Bytes of the tags that entries in memory carry. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The held version of a tag, if it may be believed now. */
  version(name: string): string | undefined {
    return this.#coherence.trusted() ? this.#find(name)?.version : undefined;
  }

  /**
   * Compares what an entry saw with what stands: `undefined` when a version is neither in `read` nor
   * held, and has to be read first.
   */
  current(tags: readonly TagVersion[], read?: TagVersions): boolean | undefined {
    let unknown = false;
    for (const tag of tags) {
      const version = read?.get(tag.name) ?? (read?.has(tag.name) ? null : this.version(tag.name));
      if (version === undefined) unknown = true;
      else if (version !== tag.version) return false;
    }
    return unknown ? undefined : true;
  }

  /** Every held version. */
  all(): readonly TagVersion[] {
    return [...this.#carried.values(), ...this.#spare.values()];
  }

  /** Holds a version that was read. */
  hold(name: string, version: string): void {
    const held = this.#find(name);
    if (held?.version === version) return;
    if (held !== undefined) this.#drop(held);
    this.#spare.set(name, { name, version, stands: true, entries: 0 });
  }

  /** Forgets the versions of tags, and those being read. */
  forget(names: readonly string[]): void {
    for (const name of names) {
      this.#coherence.bump(name);
      const held = this.#find(name);
      if (held !== undefined) this.#drop(held);
    }
  }

  /** Forgets every version. */
  forgetAll(): void {
    for (const held of this.all() as CountedTag[]) this.#drop(held);
  }

  /** An entry that carries these tags, all current, comes into memory. Answers the objects to share. */
  carry(tags: readonly TagVersion[]): readonly HeldTag[] {
    return tags.map((tag) => {
      const held = this.#find(tag.name) ?? { ...tag, stands: false, entries: 0 };
      if (held.entries++ > 0) return held;
      this.#bytes += bytesOf(held);
      this.#spare.delete(held.name);
      if (held.stands) this.#carried.set(held.name, held);
      return held;
    });
  }

  /** An entry that carried these tags has left memory. */
  uncarry(tags: readonly HeldTag[]): void {
    for (const held of tags as readonly CountedTag[]) {
      if (--held.entries > 0) continue;
      this.#bytes -= bytesOf(held);
      if (!held.stands) continue;
      this.#carried.delete(held.name);
      this.#spare.set(held.name, held);
    }
  }

  #find(name: string): CountedTag | undefined {
    return this.#carried.get(name) ?? this.#spare.get(name);
  }

  #drop(held: CountedTag): void {
    held.stands = false;
    this.#carried.delete(held.name);
    this.#spare.delete(held.name);
    this.#epoch++;
  }
}

function bytesOf({ name, version }: TagVersion): number {
  return TAG_OVERHEAD_BYTES + name.length + version.length;
}

/**
 * Tag versions in the store.
 *
 * A tag is a random version under a key of its own. An entry records the versions it saw before its
 * load and is valid only while they are equal, so invalidating any number of entries is one write,
 * and no clocks are compared. Versions are held here while the feed is good, which saves the round
 * trip.
 */
export class Tags {
  readonly #store: Store;
  readonly #held: HeldTags;
  readonly #coherence: Coherence;
  readonly #newVersion: () => string;

  /** @param newVersion Makes a version that nobody has made before. */
  constructor(
    store: Store,
    held: HeldTags,
    parts: { readonly coherence: Coherence; readonly newVersion: () => string },
  ) {
    this.#store = store;
    this.#held = held;
    this.#coherence = parts.coherence;
    this.#newVersion = parts.newVersion;
  }

  /** Reads the versions that are not held from the store, and holds what the feed vouches for. */
  async read(all: readonly string[]): Promise<TagVersions> {
    const names = all.filter((name) => this.#held.version(name) === undefined);
    const epochs = names.map((name) => this.#coherence.epoch(name));
    const versions = await this.#store.readTags(names);
    this.#hold(names, versions, epochs);
    return new Map(names.map((name, i) => [name, versions[i] ?? null]));
  }

  /** The versions of tags, in their order; tags without one are given one. For use before a load. */
  async ensure(names: readonly string[]): Promise<readonly TagVersion[]> {
    const known: TagVersion[] = [];
    for (const name of names) {
      const version = this.#held.version(name);
      if (version === undefined) break;
      known.push({ name, version });
    }
    if (known.length === names.length) return known;
    const epochs = names.map((name) => this.#coherence.epoch(name));
    const version = this.#newVersion();
    const versions = await this.#store.createTags(names, version);
    this.#hold(names, versions, epochs);
    return names.map((name, i) => ({ name, version: versions[i] ?? version }));
  }

  /** Gives tags a new version. When it rejects, what is held here is forgotten all the same. */
  async invalidate(names: readonly string[]): Promise<void> {
    this.#held.forget(names);
    try {
      await this.#store.writeTags(names, this.#newVersion());
    } finally {
      // Again: a read that was sent before the write may have brought the old version since.
      this.#held.forget(names);
    }
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
      this.#held.hold(name, version);
    });
  }
}
