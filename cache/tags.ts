import { LRUCache } from "lru-cache";
import type { Coherence } from "./coherence.ts";
import { TAGS_MAX, type TagVersion } from "./entry.ts";
import { shown } from "./errors.ts";
import { assertKey } from "./keys.ts";
import type { Store } from "./store.ts";

/** The tag of every entry: giving it a new version clears the cache. */
export const ROOT_TAG = "*";

/** Limit of held versions of tags that no entry in memory carries. */
const SPARE_MAX = 10_000;
/** Bytes per held tag besides its two texts: measured, see the test of the memory bound. */
const TAG_OVERHEAD_BYTES = 180;

const ROOT_ONLY: readonly string[] = [ROOT_TAG];

/**
 * KEYS: tags. ARGV: a version for each. Gives it to the tags that have none, and answers the current versions.
 *
 * One script, so that two processes that create the same tag get the same version, and thus share leases. `SET
 * NX GET` needs Redis 7. `pcall`, because a foreign type under our key must count as "no version".
 */
export const CREATE_TAG_LUA = `
local replies = {}
for i, key in ipairs(KEYS) do
  local standing = redis.pcall('GET', key)
  if type(standing) ~= 'string' then
    standing = ARGV[i]
    redis.call('SET', key, standing)
  end
  replies[i] = standing
end
return replies
`;

/**
 * Checks a list of tags.
 *
 * @throws {TypeError} It is no list, there are too many, or one of them cannot be used.
 */
export function assertTags(tags: readonly string[] | undefined): void {
  if (tags === undefined) return;
  // A text would count as a list of its letters, and invalidating the tag would do nothing.
  if (!Array.isArray(tags)) throw new TypeError(`Cannot use ${shown(tags)} as tags: use a list`);
  if (tags.length > TAGS_MAX) {
    throw new TypeError(`Cannot use ${tags.length} tags: at most ${TAGS_MAX}`);
  }
  for (const tag of tags) assertTag(tag);
}

/** @throws {TypeError} The tag cannot be used. */
export function assertTag(tag: string): void {
  assertKey(tag, "tag");
  if (tag === ROOT_TAG) {
    throw new TypeError(`Cannot use ${ROOT_TAG} as a tag: it is reserved for clear()`);
  }
}

/** The tags of an entry: the root tag and its own. */
export function tagNames({ tags }: { readonly tags?: readonly string[] }): readonly string[] {
  return tags === undefined || tags.length === 0 ? ROOT_ONLY : [ROOT_TAG, ...tags];
}

/** Versions read for one look-up. `null`: the tag has none, so every entry that carries it is invalid. */
export type TagVersions = ReadonlyMap<string, string | null>;

/**
 * A tag version that this process holds: one object, shared by all entries in memory that carry it. Only {@linkcode
 * HeldTags} changes it.
 */
export interface HeldTag extends TagVersion {
  /** True if it is the current version, as far as this process knows. */
  isCurrent: boolean;
  /** Number of entries in memory that carry it. */
  entries: number;
}

/**
 * The tag versions that this process holds, and trusts as long as memory: those of all entries in memory, and the
 * most recently used others.
 */
export class HeldTags {
  readonly #coherence: Coherence;
  readonly #carried = new Map<string, HeldTag>();
  readonly #spare = new LRUCache<string, HeldTag>({ max: SPARE_MAX });
  #bytes = 0;
  #epoch = 0;

  constructor(coherence: Coherence) {
    this.#coherence = coherence;
  }

  /** Changes whenever a held version is lost or replaced. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Bytes of the tags of entries in memory. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The held version of a tag, if it may be trusted now. */
  version(name: string): string | undefined {
    return this.#coherence.trusted() ? this.#find(name)?.version : undefined;
  }

  /**
   * Compares the tag versions of an entry with the current ones. `undefined` if a version is neither in `read`
   * nor held, so it must be read first.
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
  all(): readonly HeldTag[] {
    return [...this.#carried.values(), ...this.#spare.values()];
  }

  /** Holds a version that was read. */
  hold(name: string, version: string): void {
    const held = this.#find(name);
    if (held?.version === version) return;
    if (held !== undefined) this.#drop(held);
    this.#spare.set(name, { name, version, isCurrent: true, entries: 0 });
  }

  /** Forgets the versions of tags, and discards those that are being read. */
  forget(names: readonly string[]): void {
    for (const name of names) {
      this.#coherence.bump(name);
      const held = this.#find(name);
      if (held !== undefined) this.#drop(held);
    }
  }

  /** Forgets every version. */
  forgetAll(): void {
    for (const held of this.all()) this.#drop(held);
  }

  /** Notes that an entry with these current tags enters memory. Answers the objects to share. */
  carry(tags: readonly TagVersion[]): readonly HeldTag[] {
    return tags.map((tag) => {
      const held = this.#find(tag.name) ?? { ...tag, isCurrent: false, entries: 0 };
      if (held.entries++ > 0) return held;
      this.#bytes += bytesOf(held);
      this.#spare.delete(held.name);
      if (held.isCurrent) this.#carried.set(held.name, held);
      return held;
    });
  }

  /** Notes that an entry with these tags has left memory. */
  uncarry(tags: readonly HeldTag[]): void {
    for (const held of tags) {
      if (--held.entries > 0) continue;
      this.#bytes -= bytesOf(held);
      if (!held.isCurrent) continue;
      this.#carried.delete(held.name);
      this.#spare.set(held.name, held);
    }
  }

  #find(name: string): HeldTag | undefined {
    return this.#carried.get(name) ?? this.#spare.get(name);
  }

  #drop(held: HeldTag): void {
    held.isCurrent = false;
    this.#carried.delete(held.name);
    this.#spare.delete(held.name);
    this.#epoch++;
  }
}

function bytesOf({ name, version }: TagVersion): number {
  return TAG_OVERHEAD_BYTES + name.length + version.length;
}

/** The parts of an engine that its {@linkcode Tags} use. */
export interface TagsParts {
  readonly store: Store;
  readonly held: HeldTags;
  readonly coherence: Coherence;
  /** Makes a unique version. */
  readonly newNonce: () => string;
}

/**
 * Tag versions in the store.
 *
 * A tag is a random version under a key of its own. An entry records the versions from before its load and is
 * valid only while they are equal. So any number of entries is invalidated with one write, and no clocks are
 * compared. While the feed is good, versions are held here, which saves a round trip.
 */
export class Tags {
  readonly #parts: TagsParts;

  constructor(parts: TagsParts) {
    this.#parts = parts;
  }

  /** Reads versions that are not held from the store, and holds those that the feed covers. */
  async read(all: readonly string[]): Promise<TagVersions> {
    const { held, store } = this.#parts;
    const names = all.filter((name) => held.version(name) === undefined);
    const versions = await this.#held(names, () => store.readTags(names));
    return new Map(names.map((name, i) => [name, versions[i] ?? null]));
  }

  /** The versions of tags, in their order; tags without a version get one. Call it before a load. */
  ensure(names: readonly string[]): readonly TagVersion[] | Promise<readonly TagVersion[]> {
    const known: TagVersion[] = [];
    for (const name of names) {
      const version = this.#parts.held.version(name);
      if (version === undefined) return this.#create(names);
      known.push({ name, version });
    }
    return known;
  }

  async #create(names: readonly string[]): Promise<readonly TagVersion[]> {
    const { store, newNonce } = this.#parts;
    const version = newNonce();
    const versions = await this.#held(names, () => store.createTags(names, version));
    return names.map((name, i) => ({ name, version: versions[i] ?? version }));
  }

  /** Gives tags a new version. The held versions are forgotten even if it rejects. */
  async invalidate(names: readonly string[]): Promise<void> {
    const { held, store, newNonce } = this.#parts;
    held.forget(names);
    try {
      await store.writeTags(names, newNonce());
    } finally {
      // Again: a read sent before the write may have brought the old version meanwhile.
      held.forget(names);
    }
  }

  /** Asks the store for versions, and holds those that may be kept and have not changed meanwhile. */
  async #held<T extends string | null>(
    names: readonly string[],
    ask: () => Promise<T[]>,
  ): Promise<T[]> {
    const { coherence, held } = this.#parts;
    const epochs = names.map((name) => coherence.epoch(name));
    const versions = await ask();
    if (!coherence.mayKeep()) return versions;
    names.forEach((name, i) => {
      const version = versions[i] ?? null;
      if (version !== null && epochs[i] === coherence.epoch(name)) held.hold(name, version);
    });
    return versions;
  }
}
