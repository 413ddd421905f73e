import {
  type CatchUpRequest,
  type ChangedCache,
  type Changes,
  type Invalidation,
  NO_CHANGES,
} from "./changes.ts";
import { CacheClosedError } from "./errors.ts";
import type { CacheEvent } from "./events.ts";
import type { LoadPlan } from "./fills.ts";
import type { Inspection } from "./operations/inspection.ts";
import { assertKey, Keyspace } from "./keys.ts";
import { type BatchLoader, LoadBatch } from "./load_batch.ts";
import { type LoadContext, Loads } from "./loads.ts";
import type { Lookup } from "./lookup.ts";
import {
  type CacheOptions,
  type EntryOptions,
  type Settings,
  settingsOf,
  type WarmOptions,
} from "./options.ts";
import { placesOf } from "./topologies/open.ts";
import { Ring } from "./topologies/ring.ts";
import { type Runtime, systemRuntime, within } from "./runtime.ts";
import { Shard } from "./shard.ts";
import { type CacheStats, Counters, statsOf } from "./stats.ts";
import type { StoreInfo } from "./store.ts";
import { assertTags } from "./tags.ts";

/** The most keys that are warmed at once, and in one batch. */
const WARM_MAX = 1_000;
const WARM_BATCH = 100;
/** How long {@linkcode Cache.close} waits for background work. */
const CLOSE_MS_MAX = 1_000;

/**
 * Fetches one value from the source of truth. `undefined` or `null`: it does not exist, which is
 * remembered for the negative TTL. Anything else must survive `JSON.stringify`.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache, type Loader } from "@lookaside/cache";
 *
 * const load: Loader<string> = ({ signal }) => Promise.resolve(signal.aborted ? null : "Ada");
 * await using cache = new Cache();
 * assert.equal((await cache.getOrLoad("user:1", load)).value(), "Ada");
 * ```
 */
export type Loader<T> = (context: LoadContext) => Promise<T | null | undefined>;

/**
 * A cache-aside cache over this process's memory and a shared Redis, in any of its topologies.
 *
 * Reads never reject because of Redis: they fall back to the loader. Once {@linkcode Cache.delete} or
 * {@linkcode Cache.invalidateTags} has resolved, no read that begins later in this process, and none
 * that any process answers from Redis, gets a value that was loaded before.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 *
 * await using cache = new Cache({ url: "memory:", ttlMs: 60_000 });
 * const user = await cache.getOrLoad("user:1", () => Promise.resolve({ name: "Ada" }));
 * assert(user.source === "load" && user.value()?.name === "Ada");
 * const again = await cache.getOrLoad("user:1", () => Promise.resolve({ name: "Bob" }));
 * assert(again.source === "memory" && again.value()?.name === "Ada");
 * ```
 */
export class Cache implements AsyncDisposable {
  readonly #options: CacheOptions;
  readonly #settings: Settings;
  readonly #runtime: Runtime;
  readonly #counters = new Counters();
  readonly #background = new Set<Promise<void>>();
  readonly #loads: Loads;
  readonly #shards: readonly [Shard, ...Shard[]];
  readonly #ring: Ring | undefined;
  readonly #changes: Changes;
  readonly #instance = crypto.randomUUID();
  #noncesUsed = 0;
  #closed = false;

  /**
   * Connects in the background: a Redis that is down now is used when it comes up.
   *
   * @throws {TypeError} The URL or the prefix cannot be used.
   * @throws {RangeError} A number is out of range.
   */
  constructor(options: CacheOptions = {}) {
    this.#options = options;
    this.#runtime = options.runtime ?? systemRuntime;
    const settings = this.#settings = settingsOf(options);
    const [first, ...others] = placesOf(options);
    this.#loads = new Loads(this.#runtime, settings);
    const source = options.enabled === false ? undefined : options.changes;
    const parts = {
      options,
      settings: { ...settings, memoryBytes: Math.ceil(settings.memoryBytes / (1 + others.length)) },
      runtime: this.#runtime,
      keyspace: new Keyspace(options.prefix ?? "la", options.version ?? 1),
      counters: this.#counters,
      loads: this.#loads,
      newNonce: () => `${this.#instance}-${(this.#noncesUsed++).toString(36)}`,
      emit: (event: CacheEvent) => this.#emit(event),
      catchUp: source && ((request: CatchUpRequest) => this.#changes.catchUp(request)),
      track: (work: Promise<void>) => this.#track(work),
    };
    this.#shards = [new Shard(first, parts), ...others.map((place) => new Shard(place, parts))];
    this.#ring = others.length === 0 ? undefined : new Ring(this.#shards.map(({ name }) => name));
    this.#changes = source?.attach({
      servers: this.#shards,
      prefix: options.prefix ?? "la",
      kind: kindOf(options),
      clock: this.#runtime.clock,
      followed: async () => {
        await Promise.all(this.#shards.map((shard) => shard.followed()));
      },
    }) ?? NO_CHANGES;
  }

  /**
   * The changes that the cache is told of by its option `changes`.
   *
   * @example
   * ```ts
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * // After a write by any means: what is read from here on is at least as new.
   * await cache.changes.caughtUp();
   * ```
   */
  get changes(): Changes {
    return this.#changes;
  }

  /**
   * Answers what is stored, fresh or within its grace, without loading.
   *
   * @returns `undefined` if nothing usable is stored, or Redis cannot be asked.
   * @throws {TypeError} The key cannot be used.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * assert.equal(await cache.get("user:1"), undefined);
   * await cache.set("user:1", { name: "Ada" });
   * assert.equal((await cache.get<{ name: string }>("user:1"))?.value()?.name, "Ada");
   * ```
   */
  async get<T>(key: string): Promise<Lookup<T> | undefined> {
    this.#assertOpen();
    assertKey(key);
    const found = await this.#shardOf(key).reader.peek(key);
    return found as Lookup<T> | undefined;
  }

  /**
   * As {@linkcode Cache.get} for several keys, in their order, in one round trip.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * await cache.set("a", 1);
   * const [a, b] = await cache.getMany<number>(["a", "b"]);
   * assert.deepEqual([a?.value(), b], [1, undefined]);
   * ```
   */
  getMany<T>(keys: readonly string[]): Promise<(Lookup<T> | undefined)[]> {
    return Promise.all(keys.map((key) => this.get<T>(key)));
  }

  /**
   * Answers what is stored, else loads and stores it. Callers that miss together, here and in other
   * processes, share one load.
   *
   * @throws What `load` rejects with, unchanged, where there is no stale value to serve.
   * @throws {LoadTimeoutError} The load took longer than `loadTimeoutMs`.
   * @throws {LoadRejectedError} Too many loads are running and waiting.
   * @throws {TypeError} The key or a tag cannot be used.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * let queries = 0;
   * const load = () => Promise.resolve({ queries: ++queries });
   * const options = { ttlMs: 60_000, tags: ["orders"] };
   * const first = await cache.getOrLoad("report", load, options);
   * const second = await cache.getOrLoad("report", load, options);
   * assert.deepEqual([first.source, second.source], ["load", "memory"]);
   * assert.equal(second.value()?.queries, 1);
   * ```
   */
  getOrLoad<T>(key: string, load: Loader<T>, options?: EntryOptions<T>): Promise<Lookup<T>> {
    if (this.#options.onLookup !== undefined) return this.#observed(key, load, options);
    const shard = this.#shardOf(key);
    const held = shard.tier.hit(key);
    if (held !== undefined && !this.#closed) {
      shard.popularity.note(key);
      return held.answer as Promise<Lookup<T>>;
    }
    return this.#readOrLoad(key, load, options);
  }

  /**
   * As {@linkcode Cache.getOrLoad} for several keys, in their order: one round trip for what is
   * stored, one call of `loadMissing` for what is not. Each key is leased and fenced by itself.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * const rows = new Map([["user:1", "Ada"], ["user:2", "Grace"]]);
   * const load = (keys: readonly string[]) =>
   *   Promise.resolve(new Map(keys.flatMap((key) => [[key, rows.get(key) ?? ""] as const])));
   * const found = await cache.getOrLoadMany(["user:1", "user:2"], load);
   * assert.deepEqual(found.map((lookup) => lookup.value()), ["Ada", "Grace"]);
   * ```
   */
  async getOrLoadMany<T>(
    keys: readonly string[],
    loadMissing: BatchLoader<T>,
    options: EntryOptions<T> = {},
  ): Promise<Lookup<T>[]> {
    const unique = [...new Set(keys)];
    const wiring = { loads: this.#loads, clock: this.#runtime.clock };
    const batch = new LoadBatch<T>(wiring, loadMissing, unique);
    const reads = new Map(unique.map((key) => {
      const held = this.#shardOf(key).tier.hit(key);
      const read = held !== undefined && !this.#closed
        ? held.answer as Promise<Lookup<T>>
        : this.#read<T>(key, { load: () => batch.load(key), options });
      return [key, read.finally(() => batch.decided(key))];
    }));
    return await Promise.all(keys.map((key) => reads.get(key) ?? Promise.reject(new Error(key))));
  }

  /**
   * Stores a value. Loads under way for the key cannot overwrite it.
   *
   * @throws {TypeError} The key or a tag cannot be used, or the value has no JSON form.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * assert.equal(await cache.set("motd", "Hello", { ttlMs: 1_000 }), "applied");
   * ```
   */
  async set<T>(key: string, value: T, options: EntryOptions<T> = {}): Promise<Invalidation> {
    this.#assertOpen();
    assertKey(key);
    assertTags(options.tags);
    return await this.#shardOf(key).writer.set(key, value, options);
  }

  /**
   * Whether {@linkcode Cache.get} would answer a value (a negative entry is none).
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * await cache.getOrLoad("user:1", () => Promise.resolve(undefined));
   * assert.equal(await cache.has("user:1"), false); // known not to exist
   * ```
   */
  async has(key: string): Promise<boolean> {
    const found = await this.get(key);
    return found !== undefined && found.text !== null;
  }

  /**
   * Invalidates keys: once it resolves, no read that begins later gets what was stored or being
   * loaded before. Call it after the write to the source of truth has been committed.
   *
   * @throws {TypeError} A key cannot be used; then nothing is invalidated.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * const user = { name: "Ada" };
   * await cache.getOrLoad("user:1", () => Promise.resolve(user));
   * user.name = "Grace"; // the write is committed …
   * await cache.delete("user:1", "user:1:friends"); // … and only then invalidated
   * const fresh = await cache.getOrLoad("user:1", () => Promise.resolve(user));
   * assert.equal(fresh.value()?.name, "Grace");
   * ```
   */
  async delete(...keys: string[]): Promise<Invalidation> {
    this.#assertOpen();
    for (const key of keys) assertKey(key);
    if (this.#ring === undefined) return await this.#shards[0].delete(...keys);
    const byShard = Map.groupBy(keys, (key) => this.#shardOf(key));
    return worstOf(await Promise.all([...byShard].map(([shard, own]) => shard.delete(...own))));
  }

  /**
   * Invalidates every entry that carries one of the tags, in one write per tag and server.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * await cache.set("page:1", ["Ada"], { tags: ["users"] });
   * await cache.set("page:2", ["Grace"], { tags: ["users"] });
   * await cache.invalidateTags("users");
   * assert.deepEqual(await cache.getMany(["page:1", "page:2"]), [undefined, undefined]);
   * ```
   */
  async invalidateTags(...tags: string[]): Promise<Invalidation> {
    this.#assertOpen();
    assertTags(tags);
    return worstOf(await Promise.all(this.#shards.map((shard) => shard.invalidateTags(...tags))));
  }

  /**
   * Invalidates every entry of this cache, and touches nothing else in Redis. One write per server.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * await cache.set("a", 1);
   * await cache.clear();
   * assert.equal(await cache.has("a"), false);
   * ```
   */
  async clear(): Promise<Invalidation> {
    this.#assertOpen();
    return worstOf(await Promise.all(this.#shards.map((shard) => shard.clear())));
  }

  /**
   * Reads the most requested keys ahead of demand, in batches: those that no tier has are loaded.
   * Answers how many keys it read. Requests are counted on a sample, in every process, and decay.
   *
   * @throws What `loadMissing` rejects with.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * // At the start of a process, before the requests come. Without Redis nobody knows what is popular.
   * const load = (keys: readonly string[]) =>
   *   Promise.resolve(new Map(keys.map((key) => [key, `row of ${key}`])));
   * assert.equal(await cache.warm(load, { count: 100, keyPrefix: "user:" }), 0);
   * ```
   */
  async warm<T>(loadMissing: BatchLoader<T>, options: WarmOptions<T> = {}): Promise<number> {
    this.#assertOpen();
    const { count = 100, keyPrefix = "", ...entryOptions } = options;
    if (!(count >= 0 && count <= WARM_MAX)) {
      throw new RangeError(`Cannot warm ${count} keys: 0 to ${WARM_MAX}`);
    }
    const keys = (await this.popular(WARM_MAX))
      .filter((key) => key.startsWith(keyPrefix))
      .slice(0, count);
    for (let i = 0; i < keys.length; i += WARM_BATCH) {
      await this.getOrLoadMany(keys.slice(i, i + WARM_BATCH), loadMissing, entryOptions);
    }
    return keys.length;
  }

  /**
   * The most requested keys of every process, most requested first. A server that cannot be asked tells
   * none.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * assert.deepEqual(await cache.popular(10), []); // counts are kept in Redis
   * ```
   */
  async popular(count: number): Promise<readonly string[]> {
    const tops = await Promise.all(this.#shards.map(async ({ popularity }) => {
      try {
        return await popularity.top(count);
      } catch (_error) {
        // The store has reported it.
        return [];
      }
    }));
    // Keys are spread evenly, so what has the same rank on its server is about as popular.
    const ranks = tops.flatMap((keys) => keys.map((key, rank) => ({ key, rank })));
    return ranks.sort((a, b) => a.rank - b.rank).slice(0, count).map(({ key }) => key);
  }

  /**
   * What the tiers hold of a key, for a person to look at: nothing is counted, loaded or installed, and
   * Redis that cannot be asked is no error.
   *
   * @throws {TypeError} The key cannot be used.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * await cache.set("user:1", "Ada", { tags: ["users"] });
   * const { memory } = await cache.inspect("user:1");
   * assert.deepEqual(memory?.tags, ["users"]);
   * ```
   */
  async inspect(key: string): Promise<Inspection> {
    this.#assertOpen();
    assertKey(key);
    return await this.#shardOf(key).inspect(key);
  }

  /**
   * A snapshot of the counters.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * await cache.getOrLoad("a", () => Promise.resolve(1));
   * await cache.getOrLoad("a", () => Promise.resolve(1));
   * const { loads, memory } = cache.stats();
   * assert.deepEqual([loads, memory.hits], [1, 1]);
   * ```
   */
  stats(): CacheStats {
    return statsOf(this.#counters, this.#shards);
  }

  /**
   * What the servers that can be reached say of themselves; `undefined` in memory-only mode and while
   * there is none.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * assert.equal(await cache.storeInfo(), undefined); // there is no Redis to ask
   * ```
   */
  async storeInfo(): Promise<StoreInfo | undefined> {
    const infos: StoreInfo[] = [];
    await Promise.all(this.#shards.map(async ({ name, store }) => {
      try {
        const answer = await store?.info();
        if (answer === undefined) return;
        const title = this.#ring === undefined ? "" : `# ${name}\r\n`;
        const { info, keyspace, totalKeys } = answer;
        infos.push({ info: title + info, keyspace: title + keyspace, totalKeys });
      } catch (_error) {
        // The store has reported it.
      }
    }));
    if (infos.length === 0) return undefined;
    return {
      info: infos.map(({ info }) => info).join(""),
      keyspace: infos.map(({ keyspace }) => keyspace).join(""),
      totalKeys: infos.reduce((total, { totalKeys }) => total + totalKeys, 0),
    };
  }

  /**
   * Waits (at most a second) for background work, aborts the rest, and closes the connections.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * const cache = new Cache();
   * await cache.close();
   * await assert.rejects(cache.get("a"), { name: "CacheClosedError" });
   * ```
   */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await within(this.#runtime.clock, CLOSE_MS_MAX, Promise.all(this.#background));
    for (const shard of this.#shards) shard.stop();
    await this.#changes[Symbol.asyncDispose]();
    this.#loads.close(new CacheClosedError("Cannot load: the cache is closed"));
    // An aborted load gives its lease back, which takes a connection.
    await Promise.all(this.#background);
    await Promise.all(this.#shards.map((shard) => shard.close()));
    await Promise.all(this.#background);
  }

  /**
   * As {@linkcode Cache.close}.
   *
   * @example
   * ```ts
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache(); // closed at the end of the block
   * await cache.set("a", 1);
   * ```
   */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Apart from the hot path, so that a hit does not pay for the closure. */
  #readOrLoad<T>(
    key: string,
    load: Loader<T>,
    options: EntryOptions<T> = {},
  ): Promise<Lookup<T>> {
    return this.#read(key, { load: () => this.#loads.run(load), options });
  }

  async #read<T>(key: string, plan: LoadPlan<T>): Promise<Lookup<T>> {
    this.#assertOpen();
    assertKey(key);
    assertTags(plan.options.tags);
    const { popularity, fills, reader } = this.#shardOf(key);
    popularity.note(key);
    if (this.#options.enabled === false) return await fills.unfenced(key, plan) as Lookup<T>;
    return await reader.read(key, plan) as Lookup<T>;
  }

  async #observed<T>(
    key: string,
    load: Loader<T>,
    options: EntryOptions<T> | undefined,
  ): Promise<Lookup<T>> {
    const startedAtMs = this.#runtime.clock.monotonicNow();
    const held = this.#shardOf(key).tier.hit(key);
    const lookup = held !== undefined && !this.#closed
      ? held.lookup as Lookup<T>
      : await this.#readOrLoad(key, load, options);
    const { source, stale } = lookup;
    const durationMs = this.#runtime.clock.monotonicNow() - startedAtMs;
    this.#options.onLookup?.({ key, source, stale, durationMs });
    return lookup;
  }

  #shardOf(key: string): Shard {
    if (this.#ring === undefined) return this.#shards[0];
    return this.#shards[this.#ring.indexOf(key)] ?? this.#shards[0];
  }

  #emit(event: CacheEvent): void {
    this.#options.onEvent?.(event);
  }

  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#background.delete(tracked));
    this.#background.add(tracked);
  }

  #assertOpen(): void {
    if (this.#closed) throw new CacheClosedError("Cannot use the cache: it is closed");
  }
}

function worstOf(outcomes: readonly Invalidation[]): Invalidation {
  return outcomes.includes("pending") ? "pending" : "applied";
}

function kindOf({ url = "memory:", store }: CacheOptions): ChangedCache["kind"] {
  if (/^rediss?-ring:/.test(url)) return "ring";
  return url === "memory:" && store === undefined ? "process" : "shared";
}
