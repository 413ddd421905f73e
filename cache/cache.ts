import { type ChangedCache, type Changes, type Invalidation, NO_CHANGES } from "./changes.ts";
import { Engine } from "./engine.ts";
import type { Entry } from "./entry.ts";
import { CacheClosedError, shown } from "./errors.ts";
import type { CacheEvent } from "./events.ts";
import { assertKey, assertKeyList, batchesOf, Keyspace } from "./keys.ts";
import { type BatchLoader, LoadBatch } from "./load_batch.ts";
import { type LoadContext, LoadLimit } from "./load_limit.ts";
import type { LoadPlan } from "./loads.ts";
import type { Jsonify, Lookup } from "./lookup.ts";
import type { MemoryEntry } from "./memory_tier.ts";
import type { Inspection } from "./operations/inspection.ts";
import { mostRead } from "./operations/popularity.ts";
import { serverInfos, type StoreInfo } from "./operations/server_info.ts";
import {
  assertEntryOptions,
  type CacheOptions,
  type EntryOptions,
  settingsOf,
  type WarmOptions,
} from "./options.ts";
import { type FormOptions, hasForm, PLAIN, Reading, valueIn } from "./reading.ts";
import { type Runtime, systemRuntime, within } from "./runtime.ts";
import { type Slot, slotOf } from "./slot.ts";
import { type CacheStats, Counters, statsOf } from "./stats.ts";
import type { Store } from "./store.ts";
import { assertTag, assertTags } from "./tags.ts";
import { backendsOf } from "./topologies/open.ts";
import { Ring } from "./topologies/ring.ts";
import { parseTopology, type Topology } from "./topologies/url.ts";
import { UnderWay } from "./under_way.ts";
import { type Wrapped, wrapped } from "./wrapped.ts";

/** The most keys that are warmed by one call, and in one batch. */
const WARM_MAX = 1_000;
const WARM_BATCH = 100;
/**
 * The most keys that {@linkcode Cache.getMany} and {@linkcode Cache.getOrLoadMany} read at once. With many more, this
 * process alone takes longer than a Redis command may, or than a lease lasts, and nothing would be stored.
 */
const READ_BATCH = 1_000;
/** The longest time that {@linkcode Cache.close} waits for each part of what is under way. */
const CLOSE_MS_MAX = 1_000;

/**
 * Loads one value from the source of truth. `undefined` or `null` means that it does not exist, which is
 * remembered for the negative TTL. Any other value must survive `JSON.stringify`.
 */
export type Loader<T> = (context: LoadContext) => Promise<T | null | undefined>;

/**
 * A cache-aside cache over this process's memory and a shared Redis, in any of its topologies.
 *
 * Reads never reject because of Redis: they fall back to the loader. Once {@linkcode Cache.delete} or {@linkcode
 * Cache.invalidateTags} has resolved, no read that begins later in this process gets an older value. Other processes
 * follow when Redis tells them, which takes milliseconds, and no longer than `memoryLeaseMs`.
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
  readonly #runtime: Runtime;
  readonly #counters = new Counters();
  readonly #background = new UnderWay<Promise<void>>();
  readonly #limit: LoadLimit;
  readonly #engines: readonly [Engine, ...Engine[]];
  readonly #ring: Ring | undefined;
  readonly #changes: Changes;
  #closing: Promise<void> | undefined;

  /**
   * Connects in the background: a Redis that is down now is used once it is up.
   *
   * @param store Used instead of the servers of `url`, by the tests of the cache itself.
   * @throws {TypeError} The URL or the prefix cannot be used, or an option is unknown.
   * @throws {RangeError} A number is out of range.
   */
  constructor(options: CacheOptions = {}, store?: Store) {
    const settings = settingsOf(options);
    this.#options = options;
    this.#runtime = options.runtime ?? systemRuntime;
    const { url = "memory:", enabled = true, prefix = "la", version = 1 } = options;
    const topology = enabled && store === undefined ? parseTopology(url) : undefined;
    const [first, ...others] = topology === undefined ? [] : backendsOf(topology, options);
    this.#limit = new LoadLimit(this.#runtime.clock, settings);
    const memoryBytes = enabled ? Math.ceil(settings.memoryBytes / (1 + others.length)) : 0;
    const instance = crypto.randomUUID();
    let noncesUsed = 0;
    const source = enabled ? options.changes : undefined;
    const wiring = {
      settings: { ...settings, memoryBytes },
      runtime: this.#runtime,
      keyspace: new Keyspace(prefix, version),
      counters: this.#counters,
      newNonce: () => `${instance}-${(noncesUsed++).toString(36)}`,
      emit: (event: CacheEvent) => this.#call(this.#options.onEvent, event),
      changes: source && (() => this.#changes ?? NO_CHANGES),
      track: (work: Promise<void>) => this.#track(work),
    };
    this.#engines = [
      new Engine(first, wiring, store),
      ...others.map((backend) => new Engine(backend, wiring)),
    ];
    this.#ring = others.length === 0 ? undefined : new Ring(this.#engines.map(({ name }) => name));
    this.#changes = source?.attach({
      servers: this.#engines,
      prefix,
      kind: kindOf(topology),
      clock: this.#runtime.clock,
      serverOf: (key) => this.#engineOf(key),
      followed: async () => {
        await Promise.all(this.#engines.map((engine) => engine.followed()));
      },
    }) ?? NO_CHANGES;
  }

  /**
   * The changes that the option `changes` reports to this cache.
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
   * Answers the stored value, fresh or within its grace, without loading.
   *
   * @returns `undefined` if nothing usable is stored, or Redis is unavailable.
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
  async get<T, V = Jsonify<T>>(
    key: string,
    options: Pick<EntryOptions<T, V>, "codec" | "schema"> = {},
  ): Promise<Lookup<NoInfer<V>> | undefined> {
    this.#assertUsable(key, options);
    const startedAtMs = this.#startedAtMs();
    const found = await this.#engineOf(key).reader.peek(key);
    if (found === undefined) return undefined;
    const reading = this.#readingOf(key, options);
    if (!reading.accepts(found.text)) return undefined;
    this.#observe(key, found, startedAtMs);
    return reading.lookup(found) as Lookup<V>;
  }

  /**
   * As {@linkcode Cache.get} for several keys, in their order: 1,000 at a time, each in one round trip.
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
  async getMany<T, V = Jsonify<T>>(
    keys: readonly string[],
    options: Pick<EntryOptions<T, V>, "codec" | "schema"> = {},
  ): Promise<(Lookup<NoInfer<V>> | undefined)[]> {
    assertKeyList(keys);
    const found: (Lookup<NoInfer<V>> | undefined)[] = [];
    for (const some of batchesOf(keys, READ_BATCH)) {
      found.push(...await Promise.all(some.map((key) => this.get<T, V>(key, options))));
    }
    return found;
  }

  /**
   * Answers a fresh value of memory at once, without a promise. For a server whose time per request counts:
   * anything else is left to {@linkcode Cache.getOrLoad}, which also refreshes a value that is due. Not for values
   * with a codec or a schema: it knows neither, and `value()` parses JSON.
   *
   * @returns `undefined` if memory has no fresh value that may be trusted, or the cache is closed.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * assert.equal(cache.getFromMemory("user:1"), undefined);
   * await cache.getOrLoad("user:1", () => Promise.resolve({ name: "Ada" }));
   * assert.equal(cache.getFromMemory<{ name: string }>("user:1")?.value()?.name, "Ada");
   * ```
   */
  getFromMemory<T = unknown>(key: string): Lookup<Jsonify<T>> | undefined {
    return this.#held(key)?.lookup as Lookup<Jsonify<T>> | undefined;
  }

  /**
   * Answers the stored value, or else loads and stores it. Callers that miss at the same time, in this and other
   * processes, share one load.
   *
   * @throws The error of `load`, unchanged, if there is no stale value to serve.
   * @throws {LoadTimeoutError} The load took longer than `loadTimeoutMs`.
   * @throws {LoadRejectedError} Too many loads are running and waiting.
   * @throws {TypeError} The key or a tag cannot be used, or `load` itself waits for a read of the key.
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
  getOrLoad<T, V = Jsonify<T>>(
    key: string,
    load: Loader<T>,
    options?: EntryOptions<T, V>,
  ): Promise<Lookup<NoInfer<V>>> {
    if (options !== undefined && leavesHotPath(options)) {
      return this.#readOrLoad(key, load, options);
    }
    const held = this.#held(key);
    if (held !== undefined) return held.answer as Promise<Lookup<V>>;
    return this.#readOrLoad(key, load, options);
  }

  /**
   * As {@linkcode Cache.getOrLoad} for several keys, in their order: one round trip for stored values, one call
   * of `loadMissing` for the others. Each key has its own lease and fence. Of more than 1,000 keys, that many are
   * read at a time.
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
  async getOrLoadMany<T, V = Jsonify<T>>(
    keys: readonly string[],
    loadMissing: BatchLoader<T>,
    options: EntryOptions<T, V> = {},
  ): Promise<Lookup<NoInfer<V>>[]> {
    assertKeyList(keys);
    const unique = [...new Set(keys)];
    const lookups: Lookup<V>[] = [];
    for (const some of batchesOf(unique, READ_BATCH)) {
      lookups.push(...await this.#readBatch<T, V>(some, loadMissing, options));
    }
    const byKey = new Map(unique.map((key, at) => [key, lookups[at]]));
    return keys.flatMap((key) => byKey.get(key) ?? []);
  }

  /**
   * Wraps a function: its results are cached under `name` and its arguments. Functions that are wrapped under one
   * name, in any program that shares the cache, answer each other's results.
   *
   * @throws {TypeError} The name cannot be used; later, an argument has no stable form.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * const rows = new Map([[42, { name: "Ada" }]]);
   * const findUser = cache.wrap("user", (id: number) => Promise.resolve(rows.get(id)), { ttlMs: 60_000 });
   * assert.equal((await findUser(42))?.name, "Ada");
   * assert.equal((await findUser.lookup(42)).source, "memory");
   * rows.set(42, { name: "Grace" }); // the write is committed …
   * await findUser.invalidate(42); // … and only then invalidated
   * assert.equal((await findUser(42))?.name, "Grace");
   * ```
   */
  wrap<A extends readonly unknown[], T, V = Jsonify<T>>(
    name: string,
    call: (...args: A) => Promise<T | null | undefined>,
    options: EntryOptions<T, V> = {},
  ): Wrapped<A, T, NoInfer<V>> {
    return wrapped(this, name, call, options);
  }

  /**
   * Begins a read whose value the caller loads and stores itself. As with a loader, the value is not stored if
   * an invalidation came in between.
   *
   * @throws {TypeError} The key or a tag cannot be used.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * const slot = await cache.begin<string[]>("names", { tags: ["users"] });
   * assert(!slot.hit);
   * const names = await Promise.resolve(["Ada"]); // the query
   * assert(await slot.fill(names));
   * assert.deepEqual((await cache.begin<string[]>("names")).value(), ["Ada"]);
   * ```
   */
  async begin<T, V = Jsonify<T>>(
    key: string,
    options: EntryOptions<T, V> = {},
  ): Promise<Slot<T, NoInfer<V>>> {
    this.#assertUsable(key, options);
    const { clock } = this.#runtime;
    const startedAtMs = clock.monotonicNow();
    const { reader, loads } = this.#engineOf(key);
    const reading = this.#readingOf(key, options);
    const begun = await reader.begin(key, { options, accepts: reading.accepts });
    if (begun === undefined) return slotOf(undefined, undefined);
    if ("found" in begun) {
      this.#observe(key, begun.found, startedAtMs);
      return slotOf(reading.lookup(begun.found), undefined);
    }
    const { lease, versions } = begun;
    return slotOf(undefined, {
      fill: async (value) => {
        const costMs = clock.monotonicNow() - startedAtMs;
        try {
          const entry = loads.loadedEntry(key, value, { options, versions, costMs });
          return await loads.fill(key, lease, entry);
        } catch (error) {
          await loads.release(key, lease);
          throw error;
        }
      },
      release: () => loads.release(key, lease),
    });
  }

  /**
   * Stores a value. A load of this key that is already running cannot overwrite it. After a write to the source of
   * truth, call {@linkcode Cache.delete} instead: two writers may commit in one order and call this in the other.
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
  async set<T>(
    key: string,
    value: T,
    options: EntryOptions<T, unknown> = {},
  ): Promise<Invalidation> {
    this.#assertUsable(key, options);
    return await this.#engineOf(key).writer.set(key, value, options);
  }

  /**
   * Answers true if {@linkcode Cache.get} would answer a value; a negative entry does not count.
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
   * Invalidates keys: once it resolves, no read that begins later gets an older value, stored or being loaded.
   * Call it after the write to the source of truth is committed.
   *
   * Takes keys or lists of keys.
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
  async delete(...keys: (string | readonly string[])[]): Promise<Invalidation> {
    return await this.#writeTo(keys, (engine, own) => engine.writer.delete(own));
  }

  /**
   * Ends the fresh life of keys, but not their grace: the next read gets the stored value, marked stale, and a
   * load starts in the background. For changes that readers may see a little later.
   *
   * @throws {TypeError} A key cannot be used; then nothing is changed.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * await cache.set("report", "old");
   * await cache.expire("report");
   * const report = await cache.getOrLoad("report", () => Promise.resolve("new"));
   * assert.deepEqual([report.value(), report.stale], ["old", true]);
   * ```
   */
  async expire(...keys: (string | readonly string[])[]): Promise<Invalidation> {
    return await this.#writeTo(keys, (engine, own) => engine.writer.expire(own));
  }

  /**
   * Invalidates every entry that carries one of the tags, with one write per tag and server.
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
  async invalidateTags(...tags: (string | readonly string[])[]): Promise<Invalidation> {
    this.#assertOpen();
    const all = tags.flat();
    for (const tag of all) assertTag(tag);
    return worstOf(
      await Promise.all(this.#engines.map(({ writer }) => writer.invalidateTags(all))),
    );
  }

  /**
   * Invalidates every entry of this cache with one write per server. Nothing else in Redis is touched.
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
    return worstOf(await Promise.all(this.#engines.map((engine) => engine.clear())));
  }

  /**
   * Reads the most requested keys ahead of demand, in batches, and loads those that no tier has. Answers how
   * many keys it read. Every process counts a sample of its requests; counts decay.
   *
   * @throws The error of `loadMissing`.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * // At the start of a process, before the requests come. Only Redis remembers what was popular before.
   * const load = (keys: readonly string[]) =>
   *   Promise.resolve(new Map(keys.map((key) => [key, `row of ${key}`])));
   * assert.equal(await cache.warm(load, { count: 100, keyPrefix: "user:" }), 0);
   * ```
   */
  async warm<T>(loadMissing: BatchLoader<T>, options: WarmOptions<T> = {}): Promise<number> {
    this.#assertOpen();
    const { count = 100, keyPrefix = "", ...entryOptions } = options;
    assertEntryOptions(entryOptions);
    if (!Number.isInteger(count) || count < 0 || count > WARM_MAX) {
      throw new RangeError(
        `Cannot warm ${shown(count)} keys: it must be a whole number from 0 to ${WARM_MAX}`,
      );
    }
    const keys = (await this.popular(WARM_MAX))
      .filter((key) => key.startsWith(keyPrefix))
      .slice(0, count);
    for (const some of batchesOf(keys, WARM_BATCH)) {
      await this.getOrLoadMany(some, loadMissing, entryOptions);
    }
    return keys.length;
  }

  /**
   * The most requested keys of all processes, most requested first; without Redis, of this one. An unreachable
   * server contributes none.
   *
   * @throws {RangeError} The count is not a whole number from 0.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * assert.deepEqual(await cache.popular(10), []); // nothing was read; about one read in 32 is counted
   * ```
   */
  async popular(count: number): Promise<readonly string[]> {
    if (!Number.isSafeInteger(count) || count < 0) {
      throw new RangeError(
        `Cannot list ${shown(count)} keys: it must be a whole number of at least 0`,
      );
    }
    return await mostRead(this.#engines, count);
  }

  /**
   * Shows what the tiers have of a key, for a person to look at: nothing is counted, loaded or installed, and an
   * unavailable Redis is no error.
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
    return await this.#engineOf(key).inspect(key);
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
    return statsOf(this.#counters, this.#limit.abandoned, this.#engines);
  }

  /**
   * Asks the reachable servers to describe themselves. `undefined` in memory-only mode, or if no server is
   * reachable.
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
    return await serverInfos(this.#engines);
  }

  /**
   * Waits at most a second for background work, and as long for the source of changes, aborts the rest, and closes
   * the connections. Further calls wait for the same.
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
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
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

  async #close(): Promise<void> {
    const soon = (work: PromiseLike<unknown>) =>
      within(this.#runtime.clock, CLOSE_MS_MAX, Promise.resolve(work));
    const background = () => soon(Promise.all(this.#background.all()));
    await background();
    for (const engine of this.#engines) engine.stop();
    await soon(this.#changes[Symbol.asyncDispose]()); // its database may hang
    this.#limit.close(new CacheClosedError("Cannot load: the cache is closed"));
    // An aborted load releases its lease, which needs a connection.
    await background();
    await Promise.all(this.#engines.map((engine) => engine.close()));
    await background();
  }

  /** Answers a fresh entry of memory that may be used as it is. The hot path. */
  #held(key: string): MemoryEntry | undefined {
    const engine = this.#engineOf(key);
    const held = engine.memory.hit(key);
    if (held === undefined || this.#closing !== undefined) return undefined;
    engine.popularity.note(key);
    if (this.#options.onLookup !== undefined) this.#observe(key, held.lookup, this.#startedAtMs());
    return held;
  }

  /** Kept out of the hot path, so that a hit does not allocate the closure. */
  #readOrLoad<T, V>(
    key: string,
    load: Loader<T>,
    options: EntryOptions<T, V> = {},
  ): Promise<Lookup<V>> {
    const run = (stale?: Entry) =>
      this.#limit.run((bounds) => load(contextOf(bounds, stale, options)), key);
    return this.#read(key, { load: run, options });
  }

  async #read<T, V>(key: string, asked: Pick<LoadPlan<T>, "load" | "options">): Promise<Lookup<V>> {
    this.#assertUsable(key, asked.options);
    const reading = this.#readingOf(key, asked.options);
    const plan = { ...asked, accepts: reading.accepts };
    const startedAtMs = this.#startedAtMs();
    const { popularity, loads, reader } = this.#engineOf(key);
    popularity.note(key);
    const lookup =
      await (this.#limit.isWithin(key)
        ? this.#readWithin(key, plan)
        : this.#limit.whileAway(() =>
          this.#options.enabled === false ? loads.unfenced(key, plan) : reader.read(key, plan)
        ));
    this.#observe(key, lookup, startedAtMs);
    return reading.lookup(lookup) as Lookup<V>;
  }

  async #readBatch<T, V>(
    keys: readonly string[],
    loadMissing: BatchLoader<T>,
    options: EntryOptions<T, V>,
  ): Promise<Lookup<V>[]> {
    const wiring = { limit: this.#limit, clock: this.#runtime.clock };
    const batch = new LoadBatch<T>(wiring, loadMissing, keys);
    return await Promise.all(keys.map(async (key) => {
      try {
        const plan = { load: () => batch.load(key), options };
        const held = leavesHotPath(options) ? undefined : this.#held(key)?.lookup as Lookup<V>;
        return held ?? await this.#read<T, V>(key, plan);
      } finally {
        batch.decided(key);
      }
    }));
  }

  /**
   * Reads a key on behalf of its own running load, which would otherwise wait for itself.
   *
   * @throws {TypeError} Nothing is stored that may be answered.
   */
  async #readWithin<T>(key: string, { options, accepts }: LoadPlan<T>): Promise<Lookup> {
    const found = options.refresh ? undefined : await this.#engineOf(key).reader.peek(key);
    if (found !== undefined && accepts(found.text)) return found;
    throw new TypeError(`Cannot load ${key}: its loader reads it, which would never end`);
  }

  #readingOf(key: string, options: FormOptions): Reading {
    if (!hasForm(options)) return PLAIN;
    return new Reading(options, (error) => {
      this.#counters.unreadable++;
      const reason = error instanceof Error ? error.message : String(error);
      this.#call(this.#options.onEvent, { type: "unreadable", key, reason });
    });
  }

  async #writeTo(
    keys: readonly (string | readonly string[])[],
    write: (engine: Engine, own: readonly string[]) => Promise<Invalidation>,
  ): Promise<Invalidation> {
    this.#assertOpen();
    const all = keys.flat();
    for (const key of all) assertKey(key);
    const byEngine = Map.groupBy(all, (key) => this.#engineOf(key));
    return worstOf(await Promise.all([...byEngine].map(([engine, own]) => write(engine, own))));
  }

  #engineOf(key: string): Engine {
    if (this.#ring === undefined) return this.#engines[0];
    return this.#engines[this.#ring.indexOf(key)] ?? this.#engines[0];
  }

  /** Reads the clock only if `onLookup` is set. */
  #startedAtMs(): number {
    return this.#options.onLookup === undefined ? 0 : this.#runtime.clock.monotonicNow();
  }

  #observe(key: string, { source, stale }: Lookup, startedAtMs: number): void {
    if (this.#options.onLookup === undefined) return;
    const durationMs = this.#runtime.clock.monotonicNow() - startedAtMs;
    this.#call(this.#options.onLookup, { key, source, stale, durationMs });
  }

  /** An error of a caller's handler must neither end a read nor stop the feed. */
  #call<T>(handler: ((event: T) => void) | undefined, event: T): void {
    try {
      const outcome: unknown = handler?.(event);
      if (outcome instanceof Promise) outcome.catch(() => this.#counters.handlerErrors++);
    } catch (_error) {
      this.#counters.handlerErrors++;
    }
  }

  #track(work: Promise<void>): void {
    const place = this.#background.add(work);
    void work.then(() => this.#background.delete(place));
    if (this.#options.background !== undefined) this.#call(this.#options.background, work);
  }

  #assertUsable(key: string, options: EntryOptions<never, unknown>): void {
    this.#assertOpen();
    assertKey(key);
    assertEntryOptions(options);
    assertTags(options.tags);
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) {
      throw new CacheClosedError("Cannot use the cache: it is closed");
    }
  }
}

/** A loader's context, whose parts are made on first use. */
function contextOf(
  bounds: Pick<LoadContext, "signal">,
  old: Entry | undefined,
  form: FormOptions,
): LoadContext {
  return {
    get signal() {
      return bounds.signal;
    },
    get stale() {
      return typeof old?.text === "string" ? valueIn(old.text, form) : undefined;
    },
  };
}

/** True if a read must not be answered with an entry of memory as it is. */
function leavesHotPath(options: EntryOptions<never, unknown>): boolean {
  return options === null || (options.refresh ?? false) !== false || hasForm(options);
}

function worstOf(outcomes: readonly Invalidation[]): Invalidation {
  return outcomes.includes("pending") ? "pending" : "applied";
}

function kindOf(topology: Topology | undefined): ChangedCache["kind"] {
  if (topology?.kind === "ring") return "ring";
  return topology?.kind === "memory" ? "process" : "shared";
}
