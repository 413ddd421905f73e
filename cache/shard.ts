import { CatchUp } from "./catch_up.ts";
import type { CacheServer, CatchUpRequest, Invalidation } from "./changes.ts";
import { Coherence } from "./coherence.ts";
import type { CacheEvent } from "./events.ts";
import { Fills } from "./fills.ts";
import { inspect, type Inspection } from "./operations/inspection.ts";
import type { Keyspace } from "./keys.ts";
import type { Loads } from "./loads.ts";
import { MemoryStore } from "./memory_store.ts";
import { MemoryTier } from "./memory_tier.ts";
import type { CacheOptions, Settings } from "./options.ts";
import { PendingInvalidations } from "./pending.ts";
import { Popularity } from "./operations/popularity.ts";
import { Reader } from "./reader.ts";
import { RedisStore } from "./redis/redis_store.ts";
import type { Runtime } from "./runtime.ts";
import type { Place } from "./topologies/open.ts";
import type { Servers } from "./topologies/servers.ts";
import type { CacheStats, Counters } from "./stats.ts";
import type { Store } from "./store.ts";
import { Tags } from "./tags.ts";
import { Waiters } from "./waiters.ts";
import { Writer } from "./writer.ts";

/** What the shards of a cache have in common. */
export interface ShardParts {
  readonly options: CacheOptions;
  readonly settings: Settings;
  readonly runtime: Runtime;
  readonly keyspace: Keyspace;
  readonly counters: Counters;
  readonly loads: Loads;
  /** Makes a nonce that nobody has used. */
  readonly newNonce: () => string;
  readonly emit: (event: CacheEvent) => void;
  /** Catches up with what changed; `undefined`: nobody tells. */
  readonly catchUp: ((request: CatchUpRequest) => Promise<void>) | undefined;
  /** Keeps a background promise, which must not reject, until it settles. */
  readonly track: (work: Promise<void>) => void;
}

/**
 * What a cache is where its keys have one place: tiers, feed, read and write paths. Only a ring has
 * several, which know nothing of each other: the tags of an entry are on its own server, and a server that
 * is lost costs the keys that it owns.
 */
export class Shard implements CacheServer {
  readonly name: string;
  readonly tier: MemoryTier;
  readonly reader: Reader;
  readonly writer: Writer;
  readonly fills: Fills;
  readonly popularity: Popularity;
  readonly memory: MemoryStore | undefined;
  readonly store: Store | undefined;
  readonly #parts: ShardParts;
  readonly #coherence: Coherence;
  readonly #tags: Tags;
  readonly #waiters: Waiters;
  readonly #pending: PendingInvalidations | undefined;
  readonly #catchUp: CatchUp | undefined;
  #breaker: CacheStats["breaker"] = "closed";

  constructor(place: Place, parts: ShardParts) {
    const { options, settings, runtime, newNonce } = parts;
    this.name = place.name;
    this.#parts = parts;
    const redis = place.servers === undefined ? undefined : this.#open(place.servers);
    this.store = place.store ?? redis;
    const alone = this.store === undefined;
    this.#coherence = new Coherence(runtime.clock, alone ? Infinity : settings.memoryLeaseMs);
    this.memory = options.enabled === false || settings.memoryBytes === 0
      ? undefined
      : new MemoryStore(settings.memoryBytes);
    const tags = this.#tags = new Tags(this.store, this.#coherence, newNonce);
    this.#waiters = new Waiters(runtime.clock);
    this.#pending = this.store === undefined
      ? undefined
      : new PendingInvalidations(this.store, this.#coherence, { runtime, newVersion: newNonce });
    this.#catchUp = redis === undefined ? undefined : this.#catchUpOf(redis, place.failsOver);
    this.popularity = new Popularity(runtime, redis, parts.track);
    const wiring = {
      ...parts,
      server: this.name,
      store: this.store,
      memory: this.memory,
      coherence: this.#coherence,
      tags,
      waiters: this.#waiters,
      pending: this.#pending,
      storeTrust: () => this.#storeTrust(),
    };
    this.tier = new MemoryTier(wiring);
    this.fills = new Fills({ ...wiring, tier: this.tier });
    this.reader = new Reader({ ...wiring, tier: this.tier, fills: this.fills });
    this.writer = new Writer({ ...wiring, tier: this.tier, fills: this.fills });
    this.store?.follow(this.writer.listener());
  }

  /** Whether its memory may be trusted now. */
  get coherent(): boolean {
    return this.#coherence.trusted();
  }

  /** The circuit breaker in front of its servers. */
  get breaker(): CacheStats["breaker"] {
    return this.#breaker;
  }

  /** Invalidations that its servers have not taken yet. */
  get pendingInvalidations(): number {
    return this.#pending?.size ?? 0;
  }

  delete(...keys: string[]): Promise<Invalidation> {
    return this.writer.delete(keys);
  }

  invalidateTags(...tags: string[]): Promise<Invalidation> {
    return this.writer.invalidateTags(tags);
  }

  clear(): Promise<Invalidation> {
    return this.writer.clear();
  }

  /** Resolves once this process has dropped what had been announced as changed. */
  followed(): Promise<void> {
    return this.#coherence.proved();
  }

  /** What the tiers hold of a key of its own. */
  inspect(key: string): Promise<Inspection> {
    return inspect(key, {
      runtime: this.#parts.runtime,
      store: this.store,
      memory: this.memory,
      coherence: this.#coherence,
      tags: this.#tags,
      storeTrust: () => this.#storeTrust(),
    });
  }

  /** Begins nothing more in the background. */
  stop(): void {
    this.popularity.close();
    this.#catchUp?.close();
  }

  /** Closes every connection. */
  async close(): Promise<void> {
    await this.#pending?.close();
    await this.store?.close();
    this.#waiters.wakeAll(); // they find the store closed, and may not load
  }

  #open(servers: Servers): RedisStore {
    const { settings, counters, keyspace, runtime, emit, track } = this.#parts;
    const server = this.name;
    let connections = 0;
    const redis: RedisStore = new RedisStore(servers, {
      keyspace,
      runtime,
      commandTimeoutMs: settings.commandTimeoutMs,
      heartbeatMs: settings.heartbeatMs,
      memoryLeaseMs: settings.memoryLeaseMs,
      onError: (command, error) => {
        counters.redisErrors++;
        emit({ type: "redis-error", server, command, error });
      },
      onConnection: (connected) => {
        emit({ type: "connection", server, connected });
        // Another server may have the address by now, and what is followed be the one before it.
        if (connected && connections++ > 0) redis.followAnew();
        if (this.#catchUp === undefined) return;
        if (connected) track(this.#catchUp.begin());
        else this.#catchUp.lost();
      },
      onChange: () => {
        if (this.#catchUp !== undefined) track(this.#catchUp.begin());
      },
      onBreaker: (state) => {
        this.#breaker = state;
        emit({ type: "breaker", server, state });
      },
    });
    return redis;
  }

  #storeTrust(): number | undefined {
    if ((this.#pending?.size ?? 0) > 0 || this.#catchUp?.behind) return undefined;
    return (this.#pending?.generation ?? 0) + (this.#catchUp?.generation ?? 0);
  }

  /** Where no server takes another's place, and nobody has anything to apply again, there is nothing to do. */
  #catchUpOf(redis: RedisStore, failsOver: boolean): CatchUp | undefined {
    const { catchUp: task, runtime, emit } = this.#parts;
    if (task === undefined && !failsOver) return undefined;
    const server = this.name;
    return new CatchUp(runtime, {
      task: async ({ replay }) => await task?.({ server, replay }),
      identity: () => redis.identity(),
      onError: (error) => emit({ type: "catch-up-error", server, error }),
      onMoved: () => redis.followAnew(),
      onDone: (replayed) => emit({ type: "caught-up", server, replayed }),
    });
  }
}
