import { earlyRefreshGapMs, type Entry, entryMark, type TagVersion } from "./entry.ts";
import { isUnstorable, leaseOf } from "./lease.ts";
import type { LoadPlan, Loads } from "./loads.ts";
import { Lookup } from "./lookup.ts";
import type { EngineParts } from "./parts.ts";
import { SingleFlight } from "./single_flight.ts";
import { record } from "./stats.ts";
import type { Stored } from "./store.ts";
import { tagNames, type TagVersions } from "./tags.ts";

/** Number of times that a look-up may find another's fill before it loads itself. */
const ROUNDS_MAX = 3;
const POLL_MS = 20;
const POLL_MS_MAX = 100;
/** Weight of one look-up in the share of those that hit. */
const HIT_SHARE_STEP = 1 / 32;

/** The outcome of the part of a read that must not be joined once it is sent. `undefined`: wait. */
interface Answer {
  readonly outcome: Promise<Lookup> | Lookup | undefined;
}

/** The outcome of a read that does not load: a value, or a lease and the tag versions under which it was taken. */
export type Begun =
  | { readonly found: Lookup }
  | { readonly lease: string; readonly versions: readonly TagVersion[] };

/** A usable entry from the store, or the reason to load. */
interface Found {
  readonly entry: Entry | undefined;
  /** The entry from the store, usable or not; `null` if there was none. */
  readonly stored: Stored | null;
  /** The install guard: the epoch of the key before the read. */
  readonly epoch: number;
}

const WAIT: Answer = { outcome: undefined };

/**
 * The read path: memory, then the store, then a load under a lease.
 *
 * Joining follows one rule. A look-up is joined only before it is sent (see {@linkcode SingleFlight}). A load is
 * joined only if the store answers, to a question sent after the joiner began, that the load's lease still
 * stands. So no read gets a value that was loaded before a write which was acknowledged before the read began.
 */
export class Reader {
  readonly #parts: EngineParts;
  readonly #loads: Loads;
  readonly #lookups = new SingleFlight<Answer>();
  readonly #unfencedLoads = new SingleFlight<Lookup>();
  /** Longest time for asking a slow store. Memory is always fast. */
  readonly #askMsMax: number;
  /** The share of look-ups that the store could answer, with the latest weighted most. */
  #hitShare = 1;

  constructor(parts: EngineParts, loads: Loads) {
    this.#parts = parts;
    const { store, settings } = parts;
    this.#askMsMax = store.source === "memory" ? Infinity : settings.commandTimeoutMs;
    this.#loads = loads;
  }

  /** Callers that shared another caller's look-up. */
  get joined(): number {
    return this.#lookups.joined + this.#unfencedLoads.joined;
  }

  /** Reads without loading. `undefined`: nothing usable is stored, or the store is unavailable. */
  async peek(key: string): Promise<Lookup | undefined> {
    const { memory, coherence } = this.#parts;
    const held = memory.hit(key) ?? memory.fresh(key);
    if (held !== undefined) return held.lookup;
    const trust = coherence.storeTrust();
    if (trust === undefined) return undefined;
    try {
      const { entry, epoch } = await this.#find(key, tagNames({}));
      if (entry === undefined || coherence.storeTrust() !== trust) return undefined;
      return this.#hit(key, entry, epoch);
    } catch (_error) {
      return undefined;
    }
  }

  /**
   * Reads, or takes the lease for a caller that loads the value itself. Answers neither if another reader is
   * loading, or the store is unavailable: the caller then loads without storing.
   */
  async begin(
    key: string,
    { options, accepts }: Pick<LoadPlan<never>, "options" | "accepts">,
  ): Promise<Begun | undefined> {
    const { memory, coherence, store, stored, tags, runtime, newNonce } = this.#parts;
    const held = options.refresh ? undefined : memory.hit(key) ?? memory.fresh(key);
    if (held !== undefined && accepts(held.entry.text)) return { found: held.lookup };
    const trust = this.#trust(options);
    if (trust === undefined) return undefined;
    let lease = "";
    try {
      const names = this.#loads.namesOf(key, options);
      const { entry, stored: old, epoch } = readable(await this.#find(key, names), accepts);
      const fresh = entry !== undefined && runtime.clock.now() < entry.freshUntilMs;
      if (fresh && !options.refresh && coherence.storeTrust() === trust) {
        return { found: this.#hit(key, entry, epoch) };
      }
      stored.misses++;
      const versions = await tags.ensure(this.#loads.namesOf(key, options, old?.entry));
      lease = leaseOf(newNonce(), versions);
      const { holder } = await store.acquire(key, lease, old?.mark);
      if (holder === lease) return { lease, versions };
    } catch (_error) {
      if (lease !== "") this.#parts.track(this.#loads.release(key, lease));
    }
    return undefined;
  }

  /** Reads or loads. Rejects only with the error of the load. */
  async read<T>(key: string, plan: LoadPlan<T>): Promise<Lookup> {
    const { memory, runtime, settings, waiters } = this.#parts;
    const { clock } = runtime;
    const held = plan.options.refresh ? undefined : memory.hit(key) ?? memory.fresh(key);
    if (held !== undefined && plan.accepts(held.entry.text)) {
      if (clock.monotonicNow() >= held.refreshAtMs) {
        // Past its early-refresh point: refresh once in the background; later hits do not start another.
        held.refreshAtMs = held.freshUntilMs;
        this.#loads.refresh(key, plan, { mark: entryMark(held.entry), entry: held.entry });
      }
      return held.lookup;
    }
    // A read that wants a new value must not join one that does not.
    const flight = plan.options.refresh ? `${key}\n` : key;
    let deadlineMs: number | undefined;
    let askedMs = 0;
    for (let attempt = 0;; attempt++) {
      const askedAtMs = clock.monotonicNow();
      const { outcome } = await this.#lookups.run(flight, () => this.#lookUp(key, plan));
      if (outcome !== undefined) return await outcome;
      const nowMs = clock.monotonicNow();
      askedMs += nowMs - askedAtMs;
      deadlineMs ??= nowMs + settings.waitMsMax;
      const leftMs = deadlineMs - nowMs;
      if (leftMs <= 0 || askedMs > this.#askMsMax) break;
      const pollMs = Math.min(POLL_MS * 2 ** attempt, POLL_MS_MAX) * (0.5 + runtime.random());
      await waiters.wait(key, Math.min(pollMs, leftMs));
    }
    // Load in a flight of its own: joining `#lookups` could make this reader wait again.
    return await this.#unfencedLoads.run(flight, () => this.#loads.unfenced(key, plan));
  }

  /** The part of a read that is sent: asks for the store's value, or the right to load. */
  async #lookUp<T>(key: string, plan: LoadPlan<T>): Promise<Answer> {
    const { memory } = this.#parts;
    // Again: this look-up may have waited for another, which has installed the value.
    const held = plan.options.refresh ? undefined : memory.hit(key);
    if (held !== undefined && plan.accepts(held.entry.text)) return { outcome: held.lookup };
    const trust = this.#trust(plan.options);
    const answer = trust === undefined ? undefined : await this.#ask(key, plan, trust);
    // Awaited here: without the store, a load is joined like a look-up, before it is sent.
    return answer ?? { outcome: await this.#loads.unfenced(key, plan) };
  }

  /** {@linkcode Coherence.storeTrust}, for an entry that the store may keep. */
  #trust({ tags = [] }: { readonly tags?: readonly string[] }): number | undefined {
    const { coherence, keeps } = this.#parts;
    return keeps(tags) ? coherence.storeTrust() : undefined;
  }

  /** Asks the store for the value or the lease. `undefined`: no answer in time, or none that may be trusted. */
  async #ask<T>(key: string, plan: LoadPlan<T>, trust: number): Promise<Answer | undefined> {
    const { store, coherence, tags, stored: counters, runtime, newNonce } = this.#parts;
    const names = this.#loads.namesOf(key, plan.options);
    const untilMs = runtime.clock.monotonicNow() + this.#askMsMax;
    let lease = "";
    try {
      // If most look-ups miss, ask for the lease at once: the reply is the value if there is one, and a miss
      // saves a round trip.
      const blind = this.#hitShare < 0.5 && !plan.options.refresh;
      let found: Found = blind
        ? { entry: undefined, stored: null, epoch: 0 }
        : readable(await this.#find(key, names), plan.accepts);
      // Check trust after every reply: meanwhile the server may have restarted with old data, or an invalidation
      // may have become pending.
      for (let round = 0; coherence.storeTrust() === trust; round++) {
        const mustLoad = round === 0 && plan.options.refresh;
        const hit = mustLoad ? undefined : this.#usable(key, found, plan);
        if (hit !== undefined) {
          this.#hitShare += (1 - this.#hitShare) * HIT_SHARE_STEP;
          return { outcome: hit };
        }
        if (round === (blind ? 1 : 0)) counters.misses++;
        // Asking a slow store repeatedly would take much longer than the database. The first answer may be late: the
        // store itself gives up a late command, so this process was busy.
        const isLate = round > 0 && runtime.clock.monotonicNow() > untilMs;
        if (round === ROUNDS_MAX || isLate) break;
        const { stored } = found;
        const versions = await tags.ensure(
          stored === null ? names : this.#loads.namesOf(key, plan.options, stored.entry),
        );
        lease = leaseOf(newNonce(), versions);
        const epoch = coherence.epoch(key);
        const acquired = await store.acquire(key, lease, stored?.mark);
        if (coherence.storeTrust() !== trust) break;
        if (acquired.stored === null) {
          if (blind && round === 0) counters.misses++;
          this.#hitShare -= this.#hitShare * HIT_SHARE_STEP;
          if (isUnstorable(acquired.holder)) return undefined;
          if (acquired.holder === lease) {
            const job = { plan, versions, cooldownMs: 0, stale: found.entry };
            return { outcome: this.#loads.underLease(key, lease, job) };
          }
          return this.#join(key, acquired.holder, plan);
        }
        const judged = await this.#judge(key, acquired.stored, { epoch, read: undefined });
        found = readable(judged, plan.accepts);
      }
    } catch (_error) {
      // The store may be down: the database answers, and nothing is stored.
    }
    // Perhaps only the reply was lost and the lease stands: no reader should wait for its holder.
    if (lease !== "") this.#parts.track(this.#loads.release(key, lease));
    return undefined;
  }

  /** Joins the load that holds the lease, or waits for it if it runs elsewhere. */
  #join(key: string, holder: string, { options }: Pick<LoadPlan<never>, "options">): Answer {
    const flight = this.#loads.flight(key);
    if (options.refresh || flight?.lease !== holder) return WAIT;
    this.#parts.counters.joinedLoads++;
    return { outcome: flight.outcome };
  }

  /** Reads an entry from the store, in one round trip with those of its tags that are not held. */
  async #find(key: string, names: readonly string[]): Promise<Found> {
    const { store, coherence, stored: counters, runtime, held, tags } = this.#parts;
    const epoch = coherence.epoch(key);
    const startedAtMs = runtime.clock.monotonicNow();
    const known = names.every((name) => held.version(name) !== undefined);
    const [stored, read] = known
      ? [await store.get(key), undefined]
      : await Promise.all([store.get(key), tags.read(names)]);
    record(counters.latency, runtime.clock.monotonicNow() - startedAtMs);
    if (stored === null) return { entry: undefined, stored, epoch };
    return this.#judge(key, stored, { epoch, read });
  }

  /** Leaves out an entry that may not be used: unreadable, past its grace, or with a tag that has changed. */
  #judge(
    key: string,
    stored: Stored,
    { epoch, read }: { readonly epoch: number; readonly read: TagVersions | undefined },
  ): Found | Promise<Found> {
    const { held, tags, counters, emit, runtime } = this.#parts;
    const { entry } = stored;
    if (typeof entry === "string") {
      counters.unreadable++;
      emit({ type: "unreadable", key, reason: entry });
      return { entry: undefined, stored, epoch };
    }
    if (runtime.clock.now() >= entry.staleUntilMs) return { entry: undefined, stored, epoch };
    const current = held.current(entry.tags, read);
    if (current !== undefined) return { entry: current ? entry : undefined, stored, epoch };
    return tags.read(entry.tags.map((tag) => tag.name)).then((versions) => (
      { entry: held.current(entry.tags, versions) === true ? entry : undefined, stored, epoch }
    ));
  }

  /** The answer from an entry, with a refresh in the background if it is due. `undefined`: load. */
  #usable<T>(key: string, found: Found, plan: LoadPlan<T>): Lookup | undefined {
    const { entry, stored, epoch } = found;
    const { runtime, settings } = this.#parts;
    if (entry === undefined) return undefined;
    const beta = entry.text === null ? 0 : settings.earlyRefreshBeta;
    const gapMs = earlyRefreshGapMs(entry.costMs, beta, runtime.random());
    if (runtime.clock.now() + gapMs >= entry.freshUntilMs) {
      this.#loads.refresh(key, plan, { mark: stored?.mark, entry });
    }
    return this.#hit(key, entry, epoch);
  }

  #hit(key: string, entry: Entry, epoch: number): Lookup {
    const { store, memory, counters, stored, runtime } = this.#parts;
    const stale = runtime.clock.now() >= entry.freshUntilMs;
    stored.hits++;
    if (entry.text === null) counters.negativeHits++;
    if (stale) counters.staleHits++;
    else memory.install(key, entry, epoch);
    return new Lookup(store.source, entry.text, entry.freshUntilMs, stale);
  }
}

/** Omits an entry that cannot be read, so that it is replaced like an old one. */
function readable(found: Found, accepts: LoadPlan<never>["accepts"]): Found {
  if (found.entry === undefined || accepts(found.entry.text)) return found;
  return { ...found, entry: undefined };
}
