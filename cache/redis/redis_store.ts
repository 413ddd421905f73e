import { Buffer } from "node:buffer";
import type { Connection, Following } from "./connection.ts";
import { Gather } from "./gather.ts";
import { decodeEntry, encodeEntry, type Entry, storedMark } from "../entry.ts";
import { batchesOf, type Keyspace } from "../keys.ts";
import {
  ACQUIRE_LUA,
  DROP_LUA,
  EXPIRE_LUA,
  FILL_LUA,
  leaseOf,
  RELEASE_LUA,
  TAKE_LUA,
} from "../lease.ts";
import type { Settings } from "../options.ts";
import { type KeyCount, POPULAR_LUA, type SharedCounts } from "../operations/popularity.ts";
import type { ServerInfo } from "../operations/server_info.ts";
import { Pipeline, type PipelineOptions } from "./pipeline.ts";
import { Provenance } from "./provenance.ts";
import { isOfMovingSlot, isReply, isWrongType } from "./reply_errors.ts";
import { Script, type ScriptValue } from "./scripts.ts";
import { infoOf } from "./server_life.ts";
import { TagKeeper } from "./tag_keeper.ts";
import type { Acquired, FeedListener, Store, Stored, Successor } from "../store.ts";
import { CREATE_TAG_LUA, ROOT_TAG } from "../tags.ts";

/** Limit of keys that one command reads, leases or fills. */
const KEYS_MAX = 256;
/** Limit of keys that one command sets: nothing else limits how many are set at once. */
const SETS_MAX = 16;
/** Limit of keys that one command invalidates. */
const UNLINK_MAX = 100;
/** Limit of keys or tags that are being invalidated at once: more would hold up Redis, and all other commands. */
const INVALIDATED_MAX = 1_000;
/** Time that a loaded value waits, once it is answered, to be sent with the next read. */
const FILL_DELAY_MS = 2;
/** A value of at least this many bytes is stored by a command of its own. */
const LARGE_BYTES = 65_536;

const ACQUIRE = new Script("acquire", ACQUIRE_LUA);
const FILL = new Script("fill", FILL_LUA);
const RELEASE = new Script("release", RELEASE_LUA);
const TAKE = new Script("take", TAKE_LUA);
const DROP = new Script("drop", DROP_LUA);
const EXPIRE = new Script("expire", EXPIRE_LUA);
const CREATE_TAG = new Script("create tag", CREATE_TAG_LUA);
const POPULAR = new Script("popular", POPULAR_LUA);

/** Options of a {@linkcode RedisStore}. */
export interface RedisStoreOptions
  extends
    Omit<PipelineOptions, "probeKey">,
    Pick<Settings, "compressBytesMin" | "heartbeatMs" | "leaseMs" | "memoryLeaseMs"> {
  /** The keys of this cache. */
  readonly keyspace: Keyspace;
  /** True if the servers are known not to have been replaced. */
  readonly isConfirmed: () => boolean;
}

/** A lease to take. */
interface Leasing {
  readonly key: string;
  readonly lease: string;
  readonly seen: Uint8Array | undefined;
}

/** A value to store under its lease. */
interface Filling {
  readonly key: string;
  readonly lease: string;
  readonly bytes: Buffer;
  readonly ttlMs: number;
}

/** Tier 2 on the servers of one connection. */
export class RedisStore implements Store, SharedCounts {
  readonly source = "redis";
  /** Tells whose data the servers have. */
  readonly provenance: Provenance;
  readonly #connection: Connection;
  readonly #options: RedisStoreOptions;
  readonly #keyspace: Keyspace;
  readonly #pipeline: Pipeline;
  readonly #gets: Gather<string, Uint8Array | null>;
  readonly #leases: Gather<Leasing, Acquired>;
  readonly #fills: Gather<Filling, boolean>;
  readonly #takes: Gather<Filling, Buffer>;
  readonly #sets: Gather<Filling, boolean>;
  readonly #newTags: Gather<{ readonly key: string; readonly version: string }, unknown>;
  readonly #keeper: TagKeeper;
  #feed: Following | undefined;

  constructor(connection: Connection, options: RedisStoreOptions) {
    this.#connection = connection;
    this.#options = options;
    this.#keyspace = options.keyspace;
    const probeKey = this.#keyspace.of(ROOT_TAG, ":tag");
    this.#pipeline = new Pipeline(connection, { ...options, probeKey });
    this.provenance = new Provenance(connection, this.#pipeline, this.#keyspace);
    this.#keeper = new TagKeeper(this.#pipeline, this.#keyspace, options.runtime.clock);
    const itemsMax = connection.anySlot ? KEYS_MAX : 1;
    this.#gets = new Gather({ itemsMax, send: (keys) => this.#read(keys) });
    this.#leases = new Gather({ itemsMax, send: (items) => this.#lease(items) });
    this.#fills = new Gather({
      itemsMax,
      send: (items) => this.#fill(items),
      delay: { clock: options.runtime.clock, ms: FILL_DELAY_MS },
    });
    const setsMax = Math.min(itemsMax, SETS_MAX);
    this.#takes = new Gather({ itemsMax: setsMax, send: (items) => this.#take(items) });
    this.#sets = new Gather({ itemsMax: setsMax, send: (items) => this.#fill(items) });
    this.#newTags = new Gather({
      itemsMax,
      send: async (items) => {
        const keys = items.map(({ key }) => key);
        const versions = items.map(({ version }) => version);
        return await this.#run(CREATE_TAG, keys, versions);
      },
    });
  }

  async get(key: string): Promise<Stored | null> {
    const bytes = await this.#gets.ask(this.#keyspace.of(key, ""));
    return bytes ? storedOf(bytes) : null;
  }

  acquire(key: string, lease: string, seen: Uint8Array | undefined): Promise<Acquired> {
    return this.#leases.ask({ key, lease, seen });
  }

  fill(key: string, lease: string, entry: Entry): Promise<boolean> {
    const filling = this.#fillingOf(key, lease, entry);
    const kept = this.#keep(entry);
    const stored = this.#store(filling, this.#fills);
    return kept === undefined ? stored : Promise.all([stored, kept]).then(([stored]) => stored);
  }

  async release(key: string, lease: string, successor?: Successor): Promise<void> {
    const keys = [this.#keyspace.of(key, ":lease")];
    const values = [lease, successor?.text ?? "", Math.ceil(successor?.ms ?? 0)];
    await RELEASE.run(this.#pipeline, keys, values);
  }

  /**
   * Stores under a lease, which ends that of any load. If this is given up, its last command may still arrive
   * after a later invalidation that was applied over another connection: then the lease is gone.
   */
  async set(key: string, entry: Entry): Promise<void> {
    const lease = leaseOf(crypto.randomUUID(), entry.tags);
    const filling = this.#fillingOf(key, lease, entry);
    try {
      const [old] = await Promise.all([this.#takes.ask(filling), this.#keep(entry)]);
      const isStored = await this.#store(filling, this.#sets);
      // Somebody has the lease, or Redis evicted it: even so, the old value must be removed.
      if (!isStored) await DROP.run(this.#pipeline, [this.#keyspace.of(key, "")], [old]);
    } catch (error) {
      if (!isReply(error)) throw error;
      // Redis refused it, for lack of memory or because of the value; the old one must still be removed.
      await this.invalidate([key]);
    }
    this.#assertConfirmed();
  }

  async invalidate(keys: readonly string[]): Promise<void> {
    await this.#unlink(keys, (key) => this.#everyKeyOf(key));
    this.#assertConfirmed();
  }

  async expire(keys: readonly string[]): Promise<void> {
    const nowMs = this.#options.runtime.clock.now();
    for (const some of batchesOf(keys, INVALIDATED_MAX)) {
      await Promise.all(some.map((key) => EXPIRE.run(this.#pipeline, this.#keysOf(key), [nowMs])));
    }
    this.#assertConfirmed();
  }

  readTags(names: readonly string[]): Promise<(string | null)[]> {
    return Promise.all(names.map((name) => this.#readTag(name)));
  }

  async createTags(names: readonly string[], version: string): Promise<string[]> {
    const kept = this.#keeper.keep(names, this.#options.runtime.clock.now());
    const keys = names.map((name) => this.#keyspace.of(name, ":tag"));
    const asked = Promise.all(keys.map((key) => this.#newTags.ask({ key, version })));
    const [replies] = await Promise.all([asked, kept]);
    const versions = replies.map(String);
    if (names[0] === ROOT_TAG && versions[0] === version) this.provenance.noteRootTag(version);
    return versions;
  }

  /** A missing tag counts as changed, so removing it is enough, and unused tags cost nothing. */
  async writeTags(names: readonly string[], version: string): Promise<void> {
    const isRoot = (name: string): boolean => name === ROOT_TAG;
    await Promise.all([
      names.some(isRoot) && this.#writeRoot(version),
      this.#unlink(names, (name) => [
        ...this.#keyspace.ofNeighbours(name, ":tag"),
        ...isRoot(name) ? [] : [this.#keyspace.of(name, ":tag")],
      ]),
    ]);
    this.#assertConfirmed();
  }

  async #writeRoot(version: string): Promise<void> {
    const key = this.#keyspace.of(ROOT_TAG, ":tag");
    try {
      await this.#pipeline.send("set", (client) => client.set(key, version));
    } catch (error) {
      if (!isReply(error)) throw error;
      await this.#pipeline.send("invalidate", (client) => client.unlink(key));
    }
  }

  async addPopular(counts: readonly KeyCount[]): Promise<void> {
    const keys = [this.#keyspace.of(ROOT_TAG, ":popular"), this.#keyspace.of(ROOT_TAG, ":decayed")];
    await POPULAR.run(this.#pipeline, keys, counts.flatMap(([key, count]) => [count, key]));
  }

  readPopular(count: number): Promise<string[]> {
    const key = this.#keyspace.of(ROOT_TAG, ":popular");
    return this.#pipeline.send("zrevrange", (client) => client.zrevrange(key, 0, count - 1));
  }

  follow(listener: FeedListener): void {
    this.#feed = this.#connection.follow({
      prefix: this.#keyspace.followed,
      heartbeatMs: this.#options.heartbeatMs,
      silenceMsMax: this.#options.memoryLeaseMs,
      listener,
    });
  }

  /** A foreign type counts as no version. */
  async #readTag(name: string): Promise<string | null> {
    const bytes = await this.#gets.ask(this.#keyspace.of(name, ":tag"));
    return bytes?.length ? Buffer.from(bytes).toString() : null;
  }

  /** Sends the commands that wait for the first connection: it is made, or the first attempt has failed. */
  releaseCommands(): void {
    this.#pipeline.release();
  }

  /**
   * Reopens the feed after a failover. It may have reached the new primary before the commands did: reads
   * that went to the old primary meanwhile are not announced by the new one.
   */
  reopenFeed(): void {
    this.#feed?.restart();
  }

  /** Asks every primary to describe itself. */
  infos(): Promise<readonly ServerInfo[]> {
    return this.#pipeline.send(
      "info",
      async () => await Promise.all((await this.#connection.primaries()).map(infoOf)),
    );
  }

  async close(): Promise<void> {
    this.#pipeline.close();
    // First the feed, which waits for answers to its own questions to the servers.
    await this.#feed?.close();
    await this.#connection.close();
  }

  /** Throws unless the server that acknowledged a write is known to be still the primary. */
  #assertConfirmed(): void {
    if (!this.#options.isConfirmed()) {
      throw new Error("Cannot confirm that the server is still the primary");
    }
  }

  /** Keeps the tags of an entry for as long as it lives. `undefined`: it has only the root tag, which stays. */
  #keep({ tags, staleUntilMs }: Entry): Promise<void> | undefined {
    if (tags.length === 1) return undefined;
    return this.#keeper.keep(tags.map(({ name }) => name), staleUntilMs);
  }

  #fillingOf(key: string, lease: string, entry: Entry): Filling {
    const { compressBytesMin, runtime } = this.#options;
    const ttlMs = Math.max(1, Math.ceil(entry.staleUntilMs - runtime.clock.now()));
    return { key, lease, bytes: encodeEntry(entry, compressBytesMin), ttlMs };
  }

  /** Reads the bytes under keys. A foreign type gives `null` or empty bytes. */
  async #read(keys: readonly string[]): Promise<readonly (Uint8Array | null)[]> {
    const pipeline = this.#pipeline;
    const [first = ""] = keys;
    this.#fills.flush();
    if (keys.length > 1) {
      return await pipeline.send("mget", (client) => client.mgetBuffer([...keys]), keys.length);
    }
    try {
      return [await pipeline.send("get", (client) => client.getBuffer(first))];
    } catch (error) {
      if (isWrongType(error)) return [new Uint8Array(0)];
      throw error;
    }
  }

  /** Takes leases. */
  async #lease(items: readonly Leasing[]): Promise<readonly Acquired[]> {
    const values = items.flatMap(({ lease, seen }) => [
      lease,
      seen === undefined ? "" : Buffer.concat([Buffer.from("="), seen]),
    ]);
    const leaseMs = Math.ceil(this.#options.leaseMs);
    this.#fills.flush();
    const replies = await this.#run(ACQUIRE, this.#keysOfAll(items), [leaseMs, ...values]);
    return items.map(({ lease }, at) => {
      const holder = replies[2 * at];
      const bytes = replies[2 * at + 1];
      const stored = bytes instanceof Uint8Array ? storedOf(bytes) : null;
      return { holder: holder === 1 ? lease : String(holder), stored };
    });
  }

  /** Takes leases from whoever has them. Answers the marks of the values. */
  async #take(items: readonly Filling[]): Promise<readonly Buffer[]> {
    const keys = items.flatMap(({ key }) => this.#everyKeyOf(key));
    const leases = items.map(({ lease }) => lease);
    const replies = await this.#run(TAKE, keys, [Math.ceil(this.#options.leaseMs), ...leases]);
    return replies.map((mark) => mark instanceof Buffer ? mark : Buffer.alloc(0));
  }

  /** Stores a value under its lease, together with others unless it is large. */
  #store(filling: Filling, others: Gather<Filling, boolean>): Promise<boolean> {
    if (filling.bytes.length < LARGE_BYTES) return others.ask(filling);
    return this.#fill([filling]).then(([isStored = false]) => isStored);
  }

  async #fill(items: readonly Filling[]): Promise<readonly boolean[]> {
    const values = items.flatMap(({ lease, bytes, ttlMs }) => [lease, bytes, ttlMs]);
    const replies = await this.#run(FILL, this.#keysOfAll(items), values);
    return replies.map((stored) => stored === 1);
  }

  async #run(
    script: Script,
    keys: readonly string[],
    values: readonly ScriptValue[],
  ): Promise<readonly unknown[]> {
    const replies = await script.run(this.#pipeline, keys, values);
    if (!Array.isArray(replies)) throw new Error("Cannot run script: unexpected reply");
    return replies;
  }

  /** Removes the keys of names, several at once if one command may. */
  async #unlink(names: readonly string[], keysOf: (name: string) => string[]): Promise<void> {
    const size = this.#connection.anySlot ? UNLINK_MAX : 1;
    for (const some of batchesOf(names, INVALIDATED_MAX)) {
      const commands = [...batchesOf(some, size)];
      await Promise.all(commands.map((few) => this.#remove(few.flatMap(keysOf))));
    }
  }

  /** Removes keys at once, or, if their slot is being moved, in their order: no load may fill a value removed before. */
  async #remove(keys: readonly string[]): Promise<void> {
    const remove = (...some: string[]): Promise<number> =>
      this.#pipeline.send("invalidate", (client) => client.unlink(some), some.length);
    try {
      await remove(...keys);
    } catch (error) {
      if (!isOfMovingSlot(error)) throw error;
      for (const key of keys) await remove(key);
    }
  }

  #keysOfAll(items: readonly { readonly key: string }[]): string[] {
    return items.flatMap(({ key }) => this.#keysOf(key));
  }

  /** The lease and the value of a key, then those under the previous and the next version. */
  #everyKeyOf(key: string): string[] {
    const parts = [":lease", ""] as const;
    const own = parts.map((part) => this.#keyspace.of(key, part));
    return [...own, ...parts.flatMap((part) => this.#keyspace.ofNeighbours(key, part))];
  }

  #keysOf(key: string): [value: string, lease: string] {
    return [this.#keyspace.of(key, ""), this.#keyspace.of(key, ":lease")];
  }
}

function storedOf(bytes: Uint8Array): Stored {
  return { entry: decodeEntry(bytes), mark: storedMark(bytes), bytes: bytes.length };
}
