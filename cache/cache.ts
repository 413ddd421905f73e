import { CatchUp } from "./catch_up.ts";
import { Coherence } from "./coherence.ts";
import { CacheClosedError } from "./errors.ts";
import type { CacheEvent } from "./events.ts";
import { Fills, type LoadPlan } from "./fills.ts";
import { assertKey, Keyspace } from "./keys.ts";
import { type BatchLoader, LoadBatch } from "./load_batch.ts";
import { type LoadContext, Loads } from "./loads.ts";
import type { Lookup } from "./lookup.ts";
import { MemoryStore } from "./memory_store.ts";
import { MemoryTier } from "./memory_tier.ts";
import {
  type CacheOptions,
  type EntryOptions,
  type Settings,
  settingsOf,
  type WarmOptions,
} from "./options.ts";
import { PendingInvalidations } from "./pending.ts";
import { Popularity } from "./popularity.ts";
import { Reader } from "./reader.ts";
import { RedisStore } from "./redis_store.ts";
import { type Runtime, systemRuntime } from "./runtime.ts";
import { type CacheStats, Counters, latencyStats, tierStats } from "./stats.ts";
import type { Store, StoreInfo } from "./store.ts";
import { ROOT_TAG, Tags } from "./tags.ts";
import { Waiters } from "./waiters.ts";
import { type Invalidation, Writer } from "./writer.ts";

/** The most tags an entry may carry. */
const TAGS_MAX = 16;
/** The most keys that are warmed at once, and in one batch. */
const WARM_MAX = 1_000;
const WARM_BATCH = 100;
/** How long {@linkcode Cache.close} waits for background work. */
const CLOSE_MS_MAX = 1_000;

/**
 * Fetches one value from the source of truth. `undefined` or `null`: it does not exist, which is
 * remembered for the negative TTL. Anything else must survive `JSON.stringify`.
 */
export type Loader<T> = (context: LoadContext) => Promise<T | null | undefined>;

/**
 * A cache-aside cache over this process's memory and a shared Redis.
 *
 * Reads never reject because of Redis: they fall back to the loader. Once {@linkcode Cache.delete} or
 * {@linkcode Cache.invalidateTags} has resolved, no read that begins later in this process, and none
 * that any process answers from Redis, gets a value that was loaded before.
 *
 * @example
 * ```ts
 * import { Cache } from "./mod.ts";
 *
 * await using cache = new Cache({ url: "memory:", ttlMs: 60_000 });
 * const user = await cache.getOrLoad("user:1", () => Promise.resolve({ name: "Ada" }));
 * console.assert(user.source === "load" && user.value()?.name === "Ada");
 * const again = await cache.getOrLoad("user:1", () => Promise.resolve({ name: "Bob" }));
 * console.assert(again.source === "memory" && again.value()?.name === "Ada");
 * ```
 */
export class Cache implements AsyncDisposable {
  readonly #options: CacheOptions;
  readonly #settings: Settings;
  readonly #runtime: Runtime;
  readonly #counters = new Counters();
  readonly #background = new Set<Promise<void>>();
  readonly #store: Store | undefined;
  readonly #memory: MemoryStore | undefined;
  readonly #coherence: Coherence;
  readonly #tags: Tags;
  readonly #loads: Loads;
  readonly #waiters: Waiters;
  readonly #pending: PendingInvalidations | undefined;
  readonly #catchUp: CatchUp | undefined;
  readonly #popularity: Popularity;
  readonly #tier: MemoryTier;
  readonly #fills: Fills;
  readonly #reader: Reader;
  readonly #writer: Writer;
  readonly #keyspace: Keyspace;
  readonly #instance = crypto.randomUUID();
  #noncesUsed = 0;
  #breaker: CacheStats["breaker"] = "closed";
  #closed = false;

  /**
   * Connects in the background: a Redis that is down now is used when it comes up.
   *
   * @throws {TypeError} The URL or the prefix cannot be used.
   * @throws {RangeError} A number is out of range.
   */
  constructor(options: CacheOptions = {}) {
    this.#options = options;
    this.#settings = settingsOf(options);
    this.#runtime = options.runtime ?? systemRuntime;
    const { clock } = this.#runtime;
    this.#keyspace = new Keyspace(options.prefix ?? "la", options.version ?? 1);
    this.#store = options.enabled === false ? undefined : options.store ?? this.#openStore();
    const alone = this.#store === undefined;
    this.#coherence = new Coherence(clock, alone ? Infinity : this.#settings.memoryLeaseMs);
    this.#memory = options.enabled === false || this.#settings.memoryBytes === 0
      ? undefined
      : new MemoryStore(this.#settings.memoryBytes);
    const newNonce = () => `${this.#instance}-${(this.#noncesUsed++).toString(36)}`;
    this.#tags = new Tags(this.#store, this.#coherence, newNonce);
    this.#loads = new Loads(this.#runtime, this.#settings);
    this.#waiters = new Waiters(clock);
    this.#pending = this.#store === undefined
      ? undefined
      : new PendingInvalidations(this.#store, this.#coherence, {
        runtime: this.#runtime,
        newVersion: newNonce,
      });
    this.#catchUp = this.#openCatchUp();
    this.#popularity = new Popularity(this.#runtime, this.#store, (work) => this.#track(work));
    const parts = {
      settings: this.#settings,
      runtime: this.#runtime,
      keyspace: this.#keyspace,
      store: this.#store,
      memory: this.#memory,
      coherence: this.#coherence,
      tags: this.#tags,
      loads: this.#loads,
      waiters: this.#waiters,
      pending: this.#pending,
      storeTrust: () => this.#storeTrust(),
      counters: this.#counters,
      newNonce,
      emit: (event: CacheEvent) => this.#emit(event),
      track: (work: Promise<void>) => this.#track(work),
    };
    this.#tier = new MemoryTier(parts);
    this.#fills = new Fills({ ...parts, tier: this.#tier });
    this.#reader = new Reader({ ...parts, tier: this.#tier, fills: this.#fills });
    this.#writer = new Writer({ ...parts, tier: this.#tier, fills: this.#fills });
    this.#store?.follow(this.#writer.listener());
  }

  /**
   * Answers what is stored, fresh or within its grace, without loading.
   *
   * @returns `undefined` if nothing usable is stored, or Redis cannot be asked.
   * @throws {TypeError} The key cannot be used.
   */
  async get<T>(key: string): Promise<Lookup<T> | undefined> {
    this.#assertOpen();
    assertKey(key);
    const found = await this.#reader.peek(key);
    return found as Lookup<T> | undefined;
  }

  /** As {@linkcode Cache.get} for several keys, in their order, in one round trip. */
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
   */
  getOrLoad<T>(key: string, load: Loader<T>, options?: EntryOptions<T>): Promise<Lookup<T>> {
    if (this.#options.onLookup !== undefined) return this.#observed(key, load, options);
    const held = this.#tier.hit(key);
    if (held !== undefined && !this.#closed) {
      this.#popularity.note(key);
      return held.answer as Promise<Lookup<T>>;
    }
    return this.#readOrLoad(key, load, options);
  }

  /**
   * As {@linkcode Cache.getOrLoad} for several keys, in their order: one round trip for what is
   * stored, one call of `loadMissing` for what is not. Each key is leased and fenced by itself.
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
      const held = this.#tier.hit(key);
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
   */
  async set<T>(key: string, value: T, options: EntryOptions<T> = {}): Promise<Invalidation> {
    this.#assertOpen();
    assertKey(key);
    assertTags(options.tags);
    return await this.#writer.set(key, value, options);
  }

  /** Whether {@linkcode Cache.get} would answer a value (a negative entry is none). */
  async has(key: string): Promise<boolean> {
    const found = await this.get(key);
    return found !== undefined && found.text !== null;
  }

  /**
   * Invalidates keys: once it resolves, no read that begins later gets what was stored or being
   * loaded before. Call it after the write to the source of truth has been committed.
   *
   * @throws {TypeError} A key cannot be used; then nothing is invalidated.
   */
  async delete(...keys: string[]): Promise<Invalidation> {
    this.#assertOpen();
    for (const key of keys) assertKey(key);
    return await this.#writer.delete(keys);
  }

  /** Invalidates every entry that carries one of the tags, in one write per tag. */
  async invalidateTags(...tags: string[]): Promise<Invalidation> {
    this.#assertOpen();
    assertTags(tags);
    return await this.#writer.invalidateTags(tags);
  }

  /** Invalidates every entry of this cache, and touches nothing else in Redis. One write. */
  async clear(): Promise<Invalidation> {
    this.#assertOpen();
    return await this.#writer.clear();
  }

  /**
   * Reads the most requested keys ahead of demand, in batches: those that no tier has are loaded.
   * Answers how many keys it read. Requests are counted on a sample, in every process, and decay.
   *
   * @throws What `loadMissing` rejects with.
   */
  async warm<T>(loadMissing: BatchLoader<T>, options: WarmOptions<T> = {}): Promise<number> {
    this.#assertOpen();
    const { count = 100, keyPrefix = "", ...entryOptions } = options;
    if (!(count >= 0 && count <= WARM_MAX)) {
      throw new RangeError(`Cannot warm ${count} keys: 0 to ${WARM_MAX}`);
    }
    const keys = (await this.#popular())
      .filter((key) => key.startsWith(keyPrefix))
      .slice(0, count);
    for (let i = 0; i < keys.length; i += WARM_BATCH) {
      await this.getOrLoadMany(keys.slice(i, i + WARM_BATCH), loadMissing, entryOptions);
    }
    return keys.length;
  }

  /** A snapshot of the counters. */
  stats(): CacheStats {
    const counters = this.#counters;
    return {
      memory: {
        ...tierStats(counters.memoryHits, counters.memoryMisses),
        entries: this.#memory?.size ?? 0,
        bytes: this.#memory?.bytes ?? 0,
        evictions: this.#memory?.evictions ?? 0,
      },
      redis: tierStats(counters.redisHits, counters.redisMisses),
      loads: counters.loads,
      loadErrors: counters.loadErrors,
      coalesced: this.#reader.coalesced,
      refusedFills: counters.refusedFills,
      refreshes: counters.refreshes,
      staleHits: counters.staleHits,
      negativeHits: counters.negativeHits,
      rejectedLoads: counters.rejectedLoads,
      unreadable: counters.unreadable,
      invalidations: counters.invalidations,
      pendingInvalidations: this.#pending?.size ?? 0,
      redisErrors: counters.redisErrors,
      coherent: this.#coherence.trusted(),
      feedDrops: counters.feedDrops,
      breaker: this.#breaker,
      redisLatency: latencyStats(counters.redisLatency),
      loadLatency: latencyStats(counters.loadLatency),
    };
  }

  /** What Redis says of itself; `undefined` in memory-only mode and while Redis cannot be reached. */
  async storeInfo(): Promise<StoreInfo | undefined> {
    try {
      return await this.#store?.info();
    } catch (_error) {
      // The store has reported it.
      return undefined;
    }
  }

  /** Waits (at most a second) for background work, aborts the rest, and closes the connections. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const { promise: timeout, resolve } = Promise.withResolvers<void>();
    const timer = this.#runtime.clock.after(CLOSE_MS_MAX, resolve);
    await Promise.race([Promise.all(this.#background), timeout]);
    timer.cancel();
    this.#popularity.close();
    this.#catchUp?.close();
    this.#loads.close(new CacheClosedError("Cannot load: the cache is closed"));
    // An aborted load gives its lease back, which takes a connection.
    await Promise.all(this.#background);
    await this.#pending?.close();
    await this.#store?.close();
    this.#waiters.wakeAll(); // they find the store closed, and may not load
    await Promise.all(this.#background);
  }

  /** As {@linkcode Cache.close}. */
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
    this.#popularity.note(key);
    if (this.#options.enabled === false) return await this.#fills.unfenced(key, plan) as Lookup<T>;
    return await this.#reader.read(key, plan) as Lookup<T>;
  }

  async #observed<T>(
    key: string,
    load: Loader<T>,
    options: EntryOptions<T> | undefined,
  ): Promise<Lookup<T>> {
    const startedAtMs = this.#runtime.clock.monotonicNow();
    const held = this.#tier.hit(key);
    const lookup = held !== undefined && !this.#closed
      ? held.lookup as Lookup<T>
      : await this.#readOrLoad(key, load, options);
    const { source, stale } = lookup;
    const durationMs = this.#runtime.clock.monotonicNow() - startedAtMs;
    this.#options.onLookup?.({ key, source, stale, durationMs });
    return lookup;
  }

  /** Without Redis nobody knows what is popular: nothing is warmed. */
  async #popular(): Promise<readonly string[]> {
    try {
      return await this.#popularity.top(WARM_MAX);
    } catch (_error) {
      // The store has reported it.
      return [];
    }
  }

  #openStore(): Store | undefined {
    const url = this.#options.url ?? "memory:";
    if (url === "memory:") return undefined;
    return new RedisStore(url, {
      keyspace: this.#keyspace,
      runtime: this.#runtime,
      commandTimeoutMs: this.#settings.commandTimeoutMs,
      waitReplicas: this.#settings.waitReplicas,
      heartbeatMs: this.#settings.heartbeatMs,
      memoryLeaseMs: this.#settings.memoryLeaseMs,
      onError: (command, error) => {
        this.#counters.redisErrors++;
        this.#emit({ type: "redis-error", command, error });
      },
      onConnection: (connected) => {
        this.#emit({ type: "connection", connected });
        if (this.#catchUp === undefined) return;
        if (connected) this.#track(this.#catchUp.begin());
        else this.#catchUp.lost();
      },
      onBreaker: (state) => {
        this.#breaker = state;
        this.#emit({ type: "breaker", state });
      },
    });
  }

  #storeTrust(): number | undefined {
    if ((this.#pending?.size ?? 0) > 0 || this.#catchUp?.behind) return undefined;
    return (this.#pending?.generation ?? 0) + (this.#catchUp?.generation ?? 0);
  }

  #openCatchUp(): CatchUp | undefined {
    const { catchUp: task } = this.#options;
    const store = this.#store;
    if (task === undefined || store === undefined || this.#options.store !== undefined) {
      return undefined;
    }
    return new CatchUp(this.#runtime, {
      task,
      identity: () => store.identity(),
      onError: (error) => this.#emit({ type: "catch-up-error", error }),
      onDone: (replayed) => this.#emit({ type: "caught-up", replayed }),
    });
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

function assertTags(tags: readonly string[] | undefined): void {
  if (tags === undefined) return;
  if (tags.length > TAGS_MAX) {
    throw new TypeError(`Cannot use ${tags.length} tags: at most ${TAGS_MAX}`);
  }
  for (const tag of tags) {
    assertKey(tag);
    if (tag === ROOT_TAG) throw new TypeError(`Cannot use ${ROOT_TAG} as a tag: clear() owns it`);
  }
}
