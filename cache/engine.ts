import { CatchUp, ONE_LIFE } from "./catch_up.ts";
import type { CacheServer, Changes, Invalidation } from "./changes.ts";
import { Coherence } from "./coherence.ts";
import { seldom } from "./events.ts";
import { Fallback, type FallbackParts } from "./fallback.ts";
import type { Keyspace } from "./keys.ts";
import { Loads } from "./loads.ts";
import { LocalStore } from "./local_store.ts";
import { MemoryTier } from "./memory_tier.ts";
import { inspect, type Inspection } from "./operations/inspection.ts";
import { Popularity } from "./operations/popularity.ts";
import type { CacheParts, EngineParts } from "./parts.ts";
import { PendingInvalidations } from "./pending.ts";
import { Reader } from "./reader.ts";
import { RedisStore } from "./redis/redis_store.ts";
import { Refusals } from "./redis/refusals.ts";
import { isReply, refuses } from "./redis/reply_errors.ts";
import { type CacheStats, type EngineFigures, TierCounters } from "./stats.ts";
import type { FeedListener, Store } from "./store.ts";
import { HeldTags, Tags } from "./tags.ts";
import type { Backend } from "./topologies/open.ts";
import { Waiters } from "./waiters.ts";
import { Writer } from "./writer.ts";

/** Commands without which nothing can be read or stored. An invalidation that is refused becomes pending. */
const NEEDED: ReadonlySet<string> = new Set(["get", "mget", "acquire", "create tag"]);

/** Shortest time between two catch-ups that find out whether servers refuse what is needed. */
const REFUSED_MS = 10_000;
/** Time for which servers that answer must not be confirmed, or caught up with, before memory stands in for them. */
const FAILING_MS = 1_000;

/** The parts of a cache that its engines are made of. */
export interface CacheWiring extends CacheParts {
  readonly keyspace: Keyspace;
  /** Answers the changes that are reported to the cache, once it is constructed; `undefined`: there is no source. */
  readonly changes: (() => Changes) | undefined;
}

/**
 * The tiers, feed, read path and write path for one backend. Only a ring has several engines, which are
 * independent: the tags of an entry are on its own server, and a lost server costs only its own keys.
 */
export class Engine implements CacheServer, EngineFigures {
  readonly name: string;
  readonly memory: MemoryTier;
  readonly loads: Loads;
  readonly reader: Reader;
  readonly writer: Writer;
  readonly popularity: Popularity;
  /** Its servers; `undefined` if there are none. */
  readonly redis: RedisStore | undefined;
  readonly #wiring: CacheWiring;
  readonly #parts: EngineParts;
  /** The shared tier, or this process if there is none. */
  readonly #shared: Store;
  readonly #catchUp: CatchUp | undefined;
  readonly #fallback: Fallback | undefined;
  readonly #refusals: Refusals;
  readonly #emitError: ReturnType<typeof seldom>;
  #refusedAtMs = -Infinity;
  /** Time of the first failure to catch up since the last success. */
  #failingSinceMs = Infinity;
  #reportedCoherent = false;
  #reportedConnected: boolean | undefined;
  #breaker: CacheStats["breaker"] = "closed";
  #reachable = true;

  /**
   * @param backend The shared tier; without it, memory is the only tier.
   * @param given A store instead of servers, for tests.
   */
  constructor(backend: Backend | undefined, wiring: CacheWiring, given?: Store) {
    const { settings, runtime, counters } = wiring;
    this.name = backend?.name ?? "";
    this.#wiring = wiring;
    this.#refusals = new Refusals(runtime.clock);
    this.#emitError = seldom(runtime.clock, wiring.emit);
    this.redis = backend === undefined ? undefined : this.#open(backend);
    const shared = given ?? this.redis;
    const lease = shared === undefined ? Infinity : settings.memoryLeaseMs;
    const coherence = new Coherence(runtime.clock, lease);
    if (backend?.leased) coherence.confirm(-Infinity);
    const parts = {
      ...wiring,
      server: this.name,
      coherence,
      held: new HeldTags(coherence),
      get store(): Store {
        return fallback?.active ? fallback : store;
      },
    };
    this.memory = new MemoryTier(parts);
    const store = shared ?? new LocalStore(parts, this.memory);
    const fallback = shared && wiring.changes && this.#fallbackOf(shared, parts);
    this.#parts = Object.assign(parts, {
      memory: this.memory,
      keeps: (tags: readonly string[]) => fallback?.keeps(tags) ?? true,
      stored: shared === undefined ? new TierCounters() : counters.redis,
      tags: new Tags(parts),
      pending: new PendingInvalidations(store, parts),
      waiters: new Waiters(runtime.clock),
    });
    this.#fallback = fallback;
    this.#shared = store;
    this.loads = new Loads(this.#parts);
    this.reader = new Reader(this.#parts, this.loads);
    this.writer = new Writer(this.#parts, this.loads);
    this.popularity = new Popularity(runtime, this.redis, wiring.track);
    this.#catchUp = shared === undefined ? undefined : this.#catchUpOf(backend);
    if (given !== undefined && this.#catchUp !== undefined) wiring.track(this.#catchUp.begin());
    store.follow(this.#listener());
  }

  /** Callers that shared another caller's look-up. */
  get joined(): number {
    return this.reader.joined;
  }

  /** True while its memory may be trusted. */
  get coherent(): boolean {
    return this.#parts.coherence.trusted();
  }

  /** The state of the circuit breaker; also `open` while there is no connection. */
  get breaker(): CacheStats["breaker"] {
    return this.#reachable ? this.#breaker : "open";
  }

  /** False after the connection is lost or the first attempt fails, until there is a connection. */
  get reachable(): boolean {
    return this.#reachable;
  }

  /** True while memory stands in for its servers. */
  get fallback(): boolean {
    return this.#fallback?.active ?? false;
  }

  /** Invalidations that its servers have not applied yet. */
  get pendingInvalidations(): number {
    return this.#parts.pending.size;
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

  /** Resolves once this process has dropped everything that had been announced as changed. */
  followed(): Promise<void> {
    return this.#parts.coherence.proved();
  }

  /** Shows what the tiers have of one of its keys. */
  inspect(key: string): Promise<Inspection> {
    return inspect(key, this.#parts);
  }

  /** Starts no further background work. */
  stop(): void {
    this.popularity.close();
    this.#catchUp?.close();
  }

  /** Closes every connection. */
  async close(): Promise<void> {
    const { pending, emit, server } = this.#parts;
    await this.writer.settled();
    const lost = await pending.close();
    if (lost > 0) emit({ type: "invalidations-lost", server, count: lost });
    await this.#fallback?.close();
    await this.#shared.close();
    this.#parts.waiters.wakeAll(); // the store is closed, so they fail
  }

  #open(backend: Backend): RedisStore {
    const { settings, counters, keyspace, runtime, emit } = this.#wiring;
    const server = this.name;
    let connections = 0;
    const onError = (command: string, error: unknown): void => {
      counters.redisErrors++;
      this.#emitError({ type: "redis-error", server, command, error });
      if (isReply(error)) this.#noteRefusal(command, error);
    };
    const connection = backend.connect({
      commandTimeoutMs: settings.commandTimeoutMs,
      boundsCommands: false,
      clock: runtime.clock,
      onError: (error) => {
        // After the first connection, this may be one node of a cluster that works without it.
        if (connections === 0) this.#reachable = false;
        onError("connect", error);
        redis.releaseCommands();
        this.#fallback?.check();
      },
      onConnection: (connected) => {
        this.#reachable = connected;
        if (connected !== this.#reportedConnected) emit({ type: "connection", server, connected });
        this.#reportedConnected = connected;
        if (connected) redis.releaseCommands();
        // After a reconnect the address may be a new server while the feed still follows the old one.
        if (connected && connections++ > 0) redis.reopenFeed();
        if (connected) this.#beginCatchUp();
        else this.#catchUp?.lost();
        this.#fallback?.check();
      },
      onChange: () => this.#beginCatchUp(),
      onRefused: (error) => {
        const reason = error instanceof Error ? error.message : String(error);
        onError("client tracking", new Error(`memory is not used: ${reason}`, { cause: error }));
      },
      onConfirmed: (untilMs) => this.#parts.coherence.confirm(untilMs),
    });
    const redis = new RedisStore(connection, {
      ...settings,
      keyspace,
      runtime,
      onError,
      isConfirmed: () => this.#parts.coherence.isConfirmed(),
      onBreaker: (state) => {
        this.#breaker = state;
        emit({ type: "breaker", server, state });
        // The connection may have lasted: nobody has applied what changed while memory stood in.
        if (state === "closed" && this.fallback) this.#beginCatchUp();
        this.#fallback?.check();
      },
    });
    return redis;
  }

  /** `undefined` if there is nothing to catch up with: no server and no source of changes. */
  #catchUpOf(backend: Backend | undefined): CatchUp | undefined {
    const { changes, runtime, track, emit } = this.#wiring;
    if (changes === undefined && backend === undefined) return undefined;
    const server = this.name;
    const provenance = this.redis?.provenance;
    const clear = async (): Promise<void> => {
      if (await this.clear() === "applied") return;
      throw new Error("Cannot clear Redis: it did not take the command");
    };
    return new CatchUp(runtime, this.#parts.coherence, {
      lives: provenance ?? ONE_LIFE,
      claim: changes && (async () => {
        const source = await changes().source?.();
        if (source !== undefined) await provenance?.claim(source, clear);
      }),
      readsAtOnce: changes === undefined && backend?.failsOver === false,
      task: async ({ replay }) => {
        if (changes !== undefined) await changes().catchUp({ server, replay });
        // A server that has restarted or taken over may lack deletes, and there is no record of them.
        else if (replay) await clear();
      },
      track,
      onError: (error) => {
        this.#emitError({ type: "catch-up-error", server, error });
        this.#failingSinceMs = Math.min(this.#failingSinceMs, runtime.clock.monotonicNow());
        this.#fallback?.check();
      },
      onMoved: () => this.redis?.reopenFeed(),
      onDone: (replayed) => {
        emit({ type: "caught-up", server, replayed });
        this.#failingSinceMs = Infinity;
        this.#fallback?.check();
      },
    });
  }

  #fallbackOf(shared: Store, parts: FallbackParts): Fallback {
    const { changes } = this.#wiring;
    return new Fallback(shared, this.memory, parts, {
      follower: () => changes?.().follower,
      isAway: () => this.redis !== undefined && (this.breaker !== "closed" || this.#isUnusable),
      isRefusing: () => this.#isRefusing,
      catchUp: () => {
        if (this.#reachable) this.#beginCatchUp(); // otherwise the next connection does
      },
      reopenFeed: () => this.redis?.reopenFeed(),
      drop: (keys) => this.writer.drop(keys),
      dropAll: () => this.#dropAll(),
    });
  }

  /** True if its servers answer, but keep refusing what must precede a read. */
  get #isRefusing(): boolean {
    return this.#refusals.last && !this.#parts.coherence.storeIsTrusted();
  }

  /** True if some of its servers may answer, but none may be read. */
  get #isUnusable(): boolean {
    const { coherence, runtime: { clock } } = this.#parts;
    if (coherence.storeIsTrusted()) return false;
    const failingMs = clock.monotonicNow() - this.#failingSinceMs;
    return this.#refusals.last || Math.max(failingMs, coherence.unconfirmedMs()) >= FAILING_MS;
  }

  /** Notes a refusal of its servers. If memory can stand in, a catch-up tries whether they take what reads need. */
  #noteRefusal(command: string, error: Error): void {
    const { coherence, runtime: { clock } } = this.#parts;
    const nowMs = clock.monotonicNow();
    // The catch-up may not try the refused command, so it is not repeated at each refusal.
    const isNew = nowMs - this.#refusedAtMs > REFUSED_MS;
    const isNeeded = refuses(error) && NEEDED.has(command) && this.#fallback?.isPossible;
    if (isNeeded && isNew && coherence.storeIsTrusted()) {
      this.#refusedAtMs = nowMs;
      this.#beginCatchUp();
    }
    if (coherence.storeIsTrusted()) return;
    this.#refusals.note();
    this.#fallback?.check();
  }

  #beginCatchUp(): void {
    if (this.#catchUp !== undefined) this.#wiring.track(this.#catchUp.begin());
  }

  /** Drops everything that this process has in memory. */
  #dropAll(): void {
    this.writer.dropAll();
    this.#parts.held.forgetAll();
  }

  /** Applies what the feed announces to this process, unless memory stands in for it. */
  #listener(): FeedListener {
    const { server, coherence, counters, emit } = this.#parts;
    return {
      opened: () => {
        if (this.fallback) return;
        this.#dropAll();
        coherence.open();
      },
      closed: (reason) => {
        if (this.fallback) return;
        coherence.close();
        // Memory may have to stand in: its entries are not trusted now, and are dropped when the feed
        // opens.
        if (this.#fallback === undefined) this.#dropAll();
        else this.loads.detachAll();
        this.#fallback?.check();
        if (!this.#reportedCoherent) return;
        this.#reportedCoherent = false;
        counters.feedDrops++;
        emit({ type: "coherent", server, coherent: false, reason });
      },
      alive: (sentAtMs) => {
        if (this.fallback) return;
        coherence.alive(sentAtMs);
        if (this.#reportedCoherent) return;
        this.#reportedCoherent = true;
        emit({ type: "coherent", server, coherent: true, reason: "the feed answers" });
      },
      changed: (redisKey) => {
        if (!this.fallback) this.#changed(redisKey);
      },
      flushed: () => {
        if (this.fallback) return;
        this.#dropAll();
        this.#parts.waiters.wakeAll();
        this.#beginCatchUp(); // a server that becomes a replica is flushed first, and then copies another's data
      },
    };
  }

  #changed(redisKey: string): void {
    const parsed = this.#wiring.keyspace.parse(redisKey);
    if (parsed === undefined) return;
    if (parsed.part === ":tag") return this.#parts.held.forget([parsed.name]);
    if (parsed.part === "") this.writer.drop([parsed.name]);
    this.#parts.waiters.wake(parsed.name);
  }
}
