import type { Coherence } from "./coherence.ts";
import { encodeEntry, type Entry, type TagVersion } from "./entry.ts";
import { LoadRejectedError } from "./errors.ts";
import type { CacheEvent } from "./events.ts";
import { jitteredTtlMs } from "./expiry.ts";
import { leaseOf } from "./lease.ts";
import type { LoadFlight, Loads } from "./loads.ts";
import { Lookup } from "./lookup.ts";
import type { MemoryStore } from "./memory_store.ts";
import type { MemoryTier } from "./memory_tier.ts";
import type { EntryOptions, Settings } from "./options.ts";
import type { PendingInvalidations } from "./pending.ts";
import type { Runtime } from "./runtime.ts";
import { type Counters, record } from "./stats.ts";
import type { Store } from "./store.ts";
import { ROOT_TAG, type Tags } from "./tags.ts";

/** An entry larger than this is answered but not stored. */
const ENTRY_BYTES_MAX = 8 * 1024 * 1024;
/** After a refresh failed, how long nobody tries again: the stale value serves meanwhile. */
const REFRESH_COOLDOWN_MS = 1_000;

/** What loading and filling work with. */
export interface FillsParts {
  readonly settings: Settings;
  readonly runtime: Runtime;
  readonly store: Store | undefined;
  readonly memory: MemoryStore | undefined;
  readonly tier: MemoryTier;
  readonly coherence: Coherence;
  readonly tags: Tags;
  readonly loads: Loads;
  readonly pending: PendingInvalidations | undefined;
  readonly counters: Counters;
  /** Makes a nonce that nobody has used. */
  readonly newNonce: () => string;
  readonly emit: (event: CacheEvent) => void;
  /** Keeps a background promise, which must not reject, until it settles. */
  readonly track: (work: Promise<void>) => void;
}

/** How a read gets its value when no tier has it. */
export interface LoadPlan<T> {
  /** Loads, bounded in number and time. */
  readonly load: () => Promise<T | null | undefined>;
  /** Options of the read. */
  readonly options: EntryOptions<T>;
}

/** A load that has the right to fill. */
export interface LeasedLoad<T> {
  readonly plan: LoadPlan<T>;
  /** The tag versions that the lease was taken under. */
  readonly versions: readonly TagVersion[];
  /** How long nobody should try again if it fails. */
  readonly cooldownMs: number;
}

/** Loads, and stores what was loaded where that is still right. */
export class Fills {
  readonly #parts: FillsParts;
  readonly #refreshing = new Set<string>();

  constructor(parts: FillsParts) {
    this.#parts = parts;
  }

  /** Loads under a lease, makes the load joinable, and fills behind the answer. */
  underLease<T>(key: string, lease: string, job: LeasedLoad<T>): Promise<Lookup> {
    const { loads, track } = this.#parts;
    const loading = this.#load(key, job.plan, job.versions);
    const flight: LoadFlight = {
      lease,
      outcome: loading.then(loaded),
    };
    loads.launch(key, flight);
    track(
      loading.then(
        (entry) => this.#fill(key, lease, entry),
        () => {
          loads.land(key, flight); // who asks from here on must not be given this failure
          return this.release(key, lease, job.cooldownMs);
        },
      ).finally(() => loads.land(key, flight)),
    );
    return flight.outcome;
  }

  /** The same where memory is the store: what fences is that the load is still there to be joined. */
  here<T>(key: string, lease: string, job: LeasedLoad<T>): Promise<Lookup> {
    const { loads, counters, emit, coherence, memory, tier, runtime, track } = this.#parts;
    const loading = this.#load(key, job.plan, job.versions);
    const flight: LoadFlight = {
      lease,
      outcome: loading.then(loaded),
    };
    loads.launch(key, flight);
    const settle = (entry: Entry): void => {
      if (loads.flight(key) === flight && this.#parts.tags.current(entry.tags) === true) {
        tier.install(key, entry, coherence.epoch(key));
        const ttlMs = entry.freshUntilMs - entry.loadedAtMs;
        emit({ type: "fill", key, ttlMs, costMs: entry.costMs });
      } else {
        counters.refusedFills++;
        emit({ type: "fill-refused", key });
      }
    };
    // A rejection has been counted and reaches every caller through `outcome`.
    const rest = (): void => {
      const held = memory?.get(key);
      if (held === undefined || job.cooldownMs === 0) return;
      held.restUntilMs = runtime.clock.monotonicNow() + job.cooldownMs;
    };
    track(loading.then(settle, rest).finally(() => loads.land(key, flight)));
    return flight.outcome;
  }

  /** Loads without storing: Redis is away, or the wait for another's load is over. */
  async unfenced<T>(key: string, plan: LoadPlan<T>): Promise<Lookup> {
    const entry = await this.#load(key, plan, []);
    return new Lookup("load", entry.text, 0, false);
  }

  /** Loads behind an answer that was already given, if nobody else does. */
  refresh<T>(key: string, plan: LoadPlan<T>, seen: Uint8Array | undefined): void {
    const { track, emit, counters } = this.#parts;
    if (this.#refreshing.has(key) || this.#parts.loads.flight(key) !== undefined) return;
    this.#refreshing.add(key);
    counters.refreshes++;
    track(
      this.#refreshNow(key, plan, seen)
        .catch((error: unknown) => emit({ type: "refresh-error", key, error }))
        .finally(() => this.#refreshing.delete(key)),
    );
  }

  /** Gives a lease back. Never rejects: where it can't be now, that is owed. */
  async release(key: string, lease: string, cooldownMs: number): Promise<void> {
    try {
      await this.#parts.store?.release(key, lease, cooldownMs);
    } catch (_error) {
      // The store has reported it. A server that hung may even grant the lease when it goes on, and all
      // would wait for a holder that has long given up.
      this.#parts.pending?.addKeys([key]);
    }
  }

  /** Lets `set()` make an entry the way a fill does. */
  entryOf<T>(
    value: T | null | undefined,
    tags: readonly TagVersion[],
    options: EntryOptions<T>,
  ): Entry {
    return this.#entry(value, { tags, options, costMs: 0 });
  }

  async #refreshNow<T>(
    key: string,
    plan: LoadPlan<T>,
    seen: Uint8Array | undefined,
  ): Promise<void> {
    const { store, tags, newNonce, settings } = this.#parts;
    const versions = await tags.ensure(namesOf(plan.options));
    const lease = leaseOf(newNonce(), versions);
    const job: LeasedLoad<T> = { plan, versions, cooldownMs: REFRESH_COOLDOWN_MS };
    if (store === undefined) {
      await this.here(key, lease, job);
      return;
    }
    const { holder } = await store.acquire(key, lease, {
      leaseMs: settings.leaseMs,
      seen,
    });
    if (holder === lease) await this.underLease(key, lease, job);
  }

  async #load<T>(key: string, plan: LoadPlan<T>, tags: readonly TagVersion[]): Promise<Entry> {
    const { counters, emit, runtime } = this.#parts;
    const startedAtMs = runtime.clock.monotonicNow();
    counters.loads++;
    try {
      const value = await plan.load();
      const costMs = runtime.clock.monotonicNow() - startedAtMs;
      record(counters.loadLatency, costMs);
      return this.#entry(value, { tags, options: plan.options, costMs });
    } catch (error) {
      counters.loadErrors++;
      if (error instanceof LoadRejectedError) counters.rejectedLoads++;
      emit({ type: "load-error", key, error });
      throw error;
    }
  }

  #entry<T>(value: T | null | undefined, source: EntrySource<T>): Entry {
    const { runtime, settings } = this.#parts;
    const { options, tags, costMs } = source;
    const exists = value !== null && value !== undefined;
    const text = exists ? JSON.stringify(value) : null;
    if (text === undefined) throw new TypeError("Cannot store value: it has no JSON form");
    const ttlMs = exists
      ? (typeof options.ttlMs === "function" ? options.ttlMs(value) : options.ttlMs) ??
        settings.ttlMs
      : options.negativeTtlMs ?? settings.negativeTtlMs;
    if (!(ttlMs >= 0)) {
      throw new RangeError(`Cannot use ttlMs ${ttlMs}: it must be a number from 0`);
    }
    const loadedAtMs = runtime.clock.now();
    const freshMs = ttlMs === 0 ? 0 : jitteredTtlMs(ttlMs, settings.jitterRatio, runtime.random());
    const graceMs = exists && ttlMs > 0 ? options.graceMs ?? settings.graceMs : 0;
    const freshUntilMs = loadedAtMs + freshMs;
    return { text, loadedAtMs, freshUntilMs, staleUntilMs: freshUntilMs + graceMs, costMs, tags };
  }

  /** Stores what was loaded, if the lease still stands. Never rejects. */
  async #fill(key: string, lease: string, entry: Entry): Promise<void> {
    const { store, settings, runtime, counters, emit } = this.#parts;
    const ttlMs = entry.staleUntilMs - runtime.clock.now();
    const bytes = encodeEntry(entry, settings.compressBytesMin);
    if (ttlMs <= 0 || bytes.length > ENTRY_BYTES_MAX) return this.release(key, lease, 0);
    try {
      if (await store?.fill(key, lease, { bytes, ttlMs })) {
        emit({ type: "fill", key, ttlMs, costMs: entry.costMs });
      } else {
        counters.refusedFills++;
        emit({ type: "fill-refused", key });
      }
    } catch (_error) {
      // The store has reported it. Stored or not, what is under the key is valid: the lease decided.
      // If it still stands, nobody should wait for its holder.
      await this.release(key, lease, 0);
    }
  }
}

interface EntrySource<T> {
  readonly tags: readonly TagVersion[];
  readonly options: EntryOptions<T>;
  readonly costMs: number;
}

/** The tags of an entry: the root tag of every entry, and its own. */
export function namesOf<T>(options: EntryOptions<T>): readonly string[] {
  return options.tags === undefined ? ROOT_ONLY : [ROOT_TAG, ...options.tags];
}

const ROOT_ONLY: readonly string[] = [ROOT_TAG];

function loaded(entry: Entry): Lookup {
  return new Lookup("load", entry.text, entry.freshUntilMs, false);
}
