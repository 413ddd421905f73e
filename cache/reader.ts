import type { Coherence } from "./coherence.ts";
import { decodeEntry, type Entry, entryStamp, stampOfEntry, type TagVersion } from "./entry.ts";
import type { CacheEvent } from "./events.ts";
import { earlyRefreshGapMs } from "./expiry.ts";
import { type Fills, type LoadPlan, namesOf } from "./fills.ts";
import { leaseOf, stampOf } from "./lease.ts";
import type { Loads } from "./loads.ts";
import { Lookup } from "./lookup.ts";
import type { MemoryStore } from "./memory_store.ts";
import type { MemoryTier } from "./memory_tier.ts";
import type { Settings } from "./options.ts";
import type { Runtime } from "./runtime.ts";
import { SingleFlight } from "./single_flight.ts";
import { type Counters, record } from "./stats.ts";
import type { Store } from "./store.ts";
import type { Tags } from "./tags.ts";
import type { Waiters } from "./waiters.ts";

/** How often a look-up may find that somebody else filled, before it loads by itself. */
const ROUNDS_MAX = 3;
const POLL_MS = 20;
const POLL_MS_MAX = 250;

/** What the read path works with. */
export interface ReaderParts {
  readonly settings: Settings;
  readonly runtime: Runtime;
  readonly store: Store | undefined;
  readonly memory: MemoryStore | undefined;
  readonly tier: MemoryTier;
  readonly fills: Fills;
  readonly coherence: Coherence;
  readonly tags: Tags;
  readonly loads: Loads;
  readonly waiters: Waiters;
  /**
   * `undefined` while Redis must not be read: something is owed to it, or may have been missed. Else a
   * number that has changed if it ever was so in between.
   */
  readonly storeTrust: () => number | undefined;
  readonly counters: Counters;
  /** Makes a nonce that nobody has used. */
  readonly newNonce: () => string;
  readonly emit: (event: CacheEvent) => void;
  /** Keeps a background promise, which must not reject, until it settles. */
  readonly track: (work: Promise<void>) => void;
}

/** The outcome of the part of a read that must not be joined once sent: `undefined`, wait. */
interface Answer {
  readonly outcome: Promise<Lookup> | Lookup | undefined;
}

/** An entry that was read from Redis and may be used, or the reason to load. */
interface Found {
  readonly entry: Entry | undefined;
  /** What was read, usable or not; `undefined` if nothing was there. */
  readonly stored: Uint8Array | undefined;
  /** The install guard: the epoch of the key before the read. */
  readonly epoch: number;
}

const WAIT: Answer = { outcome: undefined };

/**
 * The read path: memory, then Redis, then a load under a lease.
 *
 * Who may join whom is the heart of it. A look-up is joined only before it is sent (see
 * {@linkcode SingleFlight}); a load is joined only when Redis answers, after the joiner began, that
 * the load's lease still stands. So no read gets what was loaded before a write that was
 * acknowledged before the read began.
 */
export class Reader {
  readonly #parts: ReaderParts;
  readonly #lookups = new SingleFlight<Answer>();
  readonly #unfencedLoads = new SingleFlight<Lookup>();

  constructor(parts: ReaderParts) {
    this.#parts = parts;
  }

  /** Callers that shared another's look-up. */
  get joined(): number {
    return this.#lookups.joined + this.#unfencedLoads.joined;
  }

  /** Reads without loading. `undefined`: nothing usable is stored. */
  async peek(key: string): Promise<Lookup | undefined> {
    const { store, memory, tier, storeTrust, counters, runtime } = this.#parts;
    const held = tier.hit(key) ?? tier.fresh(key);
    if (held !== undefined) return held.lookup;
    if (memory !== undefined) counters.memoryMisses++;
    if (store === undefined) return tier.stale(key);
    const trust = storeTrust();
    if (trust === undefined) return undefined;
    try {
      const { entry, epoch } = await this.#find(store, key, namesOf({}));
      if (entry === undefined || storeTrust() !== trust) return undefined;
      const stale = runtime.clock.now() >= entry.freshUntilMs;
      return this.#hit(key, entry, { stale, epoch });
    } catch (_error) {
      // The store has reported it. Without Redis nothing is stored, as far as anyone can tell.
      return undefined;
    }
  }

  /** Reads, or loads. Rejects only with what the load rejects with. */
  async read<T>(key: string, plan: LoadPlan<T>): Promise<Lookup> {
    const { store, memory, tier, fills, counters, runtime, settings, waiters } = this.#parts;
    const held = tier.fresh(key);
    if (held !== undefined) {
      // Fresh, but due for its early refresh: this hit pays for nothing, and later ones are quiet.
      held.quietUntilMs = held.freshUntilMs;
      fills.refresh(key, plan, stampOfEntry(held.entry));
      return held.lookup;
    }
    if (memory !== undefined) counters.memoryMisses++;
    if (store === undefined) return this.#readHere(key, plan);
    const { clock } = runtime;
    let deadlineMs: number | undefined;
    let askedMs = 0;
    for (let attempt = 0;; attempt++) {
      const askedAtMs = clock.monotonicNow();
      const { outcome } = await this.#lookups.run(key, () => this.#lookUp(store, key, plan));
      if (outcome !== undefined) return outcome;
      const nowMs = clock.monotonicNow();
      askedMs += nowMs - askedAtMs;
      deadlineMs ??= nowMs + settings.waitMsMax;
      const leftMs = deadlineMs - nowMs;
      if (leftMs <= 0 || askedMs > settings.commandTimeoutMs) break;
      const pollMs = Math.min(POLL_MS * 2 ** attempt, POLL_MS_MAX) * (0.5 + runtime.random());
      await waiters.wait(key, Math.min(pollMs, leftMs));
    }
    // Not behind the look-ups, which are what has taken too long, or may tell us to wait again.
    return await this.#unfencedLoads.run(key, () => fills.unfenced(key, plan));
  }

  /** The part of a read that is sent: what Redis has, or who loads. */
  async #lookUp<T>(store: Store, key: string, plan: LoadPlan<T>): Promise<Answer> {
    const { tier, fills, storeTrust, tags, counters, runtime, settings } = this.#parts;
    const held = tier.hit(key); // again: another reader may have installed it meanwhile
    if (held !== undefined) return { outcome: held.lookup };
    const trust = storeTrust();
    if (trust === undefined) return unfenced(fills, key, plan);
    const names = namesOf(plan.options);
    const untilMs = runtime.clock.monotonicNow() + settings.commandTimeoutMs;
    let lease = "";
    let versions: readonly TagVersion[];
    let holder: string;
    try {
      let found = await this.#find(store, key, names);
      for (let round = 0;; round++) {
        this.#assertTrust(trust);
        const hit = this.#usable(key, found, plan);
        if (hit !== undefined) return { outcome: hit };
        if (round === 0) counters.redisMisses++;
        if (round === ROUNDS_MAX) throw new Error(`Cannot lease ${key}: it changes all the time`);
        // A slow Redis, asked again and again, would take much longer than the database.
        if (runtime.clock.monotonicNow() > untilMs) {
          throw new Error(`Cannot lease ${key}: too slow`);
        }
        versions = await tags.ensure(names);
        lease = leaseOf(this.#parts.newNonce(), versions);
        const epoch = this.#parts.coherence.epoch(key);
        const acquired = await store.acquire(key, lease, {
          leaseMs: settings.leaseMs,
          seen: stampOfFound(found),
        });
        this.#assertTrust(trust);
        holder = acquired.holder;
        if (acquired.bytes === null) break;
        found = await this.#judge(key, acquired.bytes, { epoch, read: undefined });
      }
    } catch (_error) {
      // The store has reported it. Redis may die: the database answers, and nothing is stored.
      // Perhaps only the reply was lost, and the lease stands: nobody should wait for its holder.
      if (lease !== "") this.#parts.track(fills.release(key, lease, 0));
      return unfenced(fills, key, plan);
    }
    if (holder === lease) {
      return { outcome: fills.underLease(key, lease, { plan, versions, cooldownMs: 0 }) };
    }
    const flight = this.#parts.loads.flight(key);
    if (flight?.lease !== holder) return WAIT;
    counters.joinedLoads++;
    return { outcome: flight.outcome };
  }

  /**
   * Asked again when a reply is there: Redis may have restarted with old data since the command was
   * queued, or an invalidation may have come to be owed since it was sent.
   */
  #assertTrust(trust: number): void {
    if (this.#parts.storeTrust() === trust) return;
    throw new Error("Cannot believe Redis: it was not to be read meanwhile");
  }

  /** Reads an entry from Redis, in one round trip with its tags when they are not held. */
  async #find(store: Store, key: string, names: readonly string[]): Promise<Found> {
    const { coherence, counters, runtime, tags } = this.#parts;
    const epoch = coherence.epoch(key);
    const startedAtMs = runtime.clock.monotonicNow();
    const held = names.every((name) => tags.held(name) !== undefined);
    const [bytes, read] = held
      ? [await store.get(key), undefined]
      : await Promise.all([store.get(key), tags.read(names)]);
    record(counters.redisLatency, runtime.clock.monotonicNow() - startedAtMs);
    if (bytes === null) return { entry: undefined, stored: undefined, epoch };
    return this.#judge(key, bytes, { epoch, read });
  }

  /** Whether stored bytes may be used: they parse, they have not outlived their grace, no tag changed. */
  #judge(
    key: string,
    stored: Uint8Array,
    context: {
      readonly epoch: number;
      readonly read: ReadonlyMap<string, string | null> | undefined;
    },
  ): Found | Promise<Found> {
    const { tags, counters, emit, runtime } = this.#parts;
    const { epoch, read } = context;
    const entry = decodeEntry(stored);
    if (typeof entry === "string") {
      counters.unreadable++;
      emit({ type: "unreadable", key, reason: entry });
      return { entry: undefined, stored, epoch };
    }
    if (runtime.clock.now() >= entry.staleUntilMs) return { entry: undefined, stored, epoch };
    const current = tags.current(entry.tags, read);
    if (current !== undefined) return { entry: current ? entry : undefined, stored, epoch };
    return tags.read(entry.tags.map((tag) => tag.name)).then((versions) => (
      { entry: tags.current(entry.tags, versions) === true ? entry : undefined, stored, epoch }
    ));
  }

  /** The answer that an entry gives, refreshed behind it where due. `undefined`: load. */
  #usable<T>(key: string, found: Found, plan: LoadPlan<T>): Lookup | undefined {
    const { entry, epoch } = found;
    const { fills, runtime, settings } = this.#parts;
    if (entry === undefined) return undefined;
    const nowMs = runtime.clock.now();
    const stale = nowMs >= entry.freshUntilMs;
    const beta = entry.text === null ? 0 : settings.earlyRefreshBeta;
    const gapMs = stale ? 0 : earlyRefreshGapMs(entry.costMs, beta, runtime.random());
    if (stale || (beta > 0 && nowMs + gapMs >= entry.freshUntilMs)) {
      fills.refresh(key, plan, stampOfFound(found));
    }
    return this.#hit(key, entry, { stale, epoch });
  }

  #hit(
    key: string,
    entry: Entry,
    how: { readonly stale: boolean; readonly epoch: number },
  ): Lookup {
    const { tier, counters } = this.#parts;
    counters.redisHits++;
    if (entry.text === null) counters.negativeHits++;
    if (how.stale) counters.staleHits++;
    else tier.install(key, entry, how.epoch);
    return new Lookup("redis", entry.text, entry.freshUntilMs, how.stale);
  }

  /** The read path without Redis: memory is the store, and this process's flights are all there are. */
  async #readHere<T>(key: string, plan: LoadPlan<T>): Promise<Lookup> {
    const { memory, tier, fills, tags, runtime, counters, loads, newNonce } = this.#parts;
    const stale = tier.stale(key);
    if (stale !== undefined) {
      const restUntilMs = memory?.get(key)?.restUntilMs ?? 0;
      if (runtime.clock.monotonicNow() >= restUntilMs) fills.refresh(key, plan, undefined);
      return stale;
    }
    const versions = await tags.ensure(namesOf(plan.options));
    // An invalidation detaches the flight or changes a tag's version, so one that is here, under the
    // versions that stand, began after every invalidation: it may be joined.
    const flight = loads.flight(key);
    if (flight?.lease.endsWith(stampOf(versions))) {
      counters.joinedLoads++;
      return flight.outcome;
    }
    return fills.here(key, leaseOf(newNonce(), versions), { plan, versions, cooldownMs: 0 });
  }
}

function stampOfFound({ stored }: Found): Uint8Array | undefined {
  return stored === undefined ? undefined : entryStamp(stored);
}

/** Awaited within the look-up: without Redis a load is joined, like a look-up, before it is sent. */
async function unfenced<T>(fills: Fills, key: string, plan: LoadPlan<T>): Promise<Answer> {
  return { outcome: await fills.unfenced(key, plan) };
}
