import { LRUCache } from "lru-cache";
import { type Entry, jitteredTtlMs, TAGS_MAX, type TagVersion } from "./entry.ts";
import { LoadRejectedError } from "./errors.ts";
import { JsonText } from "./json_text.ts";
import { leaseOf, unstorableMark } from "./lease.ts";
import { Lookup } from "./lookup.ts";
import { durationMs, type EntryOptions } from "./options.ts";
import type { EngineParts } from "./parts.ts";
import { valueIn } from "./reading.ts";
import { record } from "./stats.ts";
import type { Successor } from "./store.ts";
import { assertTags, tagNames } from "./tags.ts";
import { UnderWayByKey } from "./under_way.ts";

/** A value with more bytes of JSON than this is answered, but not stored. */
export const VALUE_BYTES_MAX = 8_388_608;
/** After a failed refresh, there is no other for this long; the stale value is answered meanwhile. */
const REFRESH_COOLDOWN_MS = 1_000;
/** Time after a value could not be stored for which other readers load it without waiting. */
const UNSTORABLE_MS = 2_000;
/** Limit of keys whose derived tags are remembered. */
const LEARNED_MAX = 10_000;

/** How a read loads its value if no tier has it. */
export interface LoadPlan<T> {
  /** Loads, limited in number and time. */
  readonly load: (stale?: Entry) => Promise<T | null | undefined>;
  /** Options of the read. */
  readonly options: EntryOptions<T, unknown>;
  /** True if the text of an entry can be read. */
  readonly accepts: (text: string | null) => boolean;
}

/** A load with the right to fill. */
export interface LeasedLoad<T> {
  readonly plan: LoadPlan<T>;
  /** The tag versions under which the lease was taken. */
  readonly versions: readonly TagVersion[];
  /** If the load fails, there is no other attempt for this long, while `stale` can be answered. */
  readonly cooldownMs: number;
  /** The entry to replace, if it may still be answered. */
  readonly stale?: Entry | undefined;
}

/** An entry to replace: its mark, and the entry itself if it may still be answered. */
export interface OldEntry {
  readonly mark: Uint8Array | undefined;
  readonly entry: Entry | undefined;
}

/** A running load that later readers may join, if the store says that its lease still stands. */
export interface LoadFlight {
  /** Its lease. */
  readonly lease: string;
  /** The answer for its callers. */
  readonly outcome: Promise<Lookup>;
}

/** The running loads of one engine: finds them by key, and stores their values if that is still correct. */
export class Loads {
  readonly #parts: EngineParts;
  readonly #flights = new UnderWayByKey<LoadFlight>();
  readonly #refreshing = new Set<string>();
  readonly #learned = new LRUCache<string, readonly string[]>({ max: LEARNED_MAX });

  constructor(parts: EngineParts) {
    this.#parts = parts;
  }

  /** The running load of a key; the caller must compare its lease. */
  flight(key: string): LoadFlight | undefined {
    return this.#flights.get(key);
  }

  /** Prevents further readers from joining the loads of keys. Present callers still get their answer. */
  detach(keys: readonly string[]): void {
    for (const key of keys) this.#flights.delete(key);
  }

  /** Detaches every load. */
  detachAll(): void {
    this.#flights.clear();
  }

  /** Loads under a lease, makes the load joinable, and fills after the answer. */
  underLease<T>(key: string, lease: string, job: LeasedLoad<T>): Promise<Lookup> {
    const { runtime, track } = this.#parts;
    const loading = this.#load(key, job);
    const flight: LoadFlight = { lease, outcome: loading.then(answerOf) };
    this.#flights.set(key, flight);
    const land = (): void => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key); // otherwise another has replaced it
    };
    const fillBehind = async (): Promise<void> => {
      try {
        await this.fill(key, lease, await loading);
      } catch (_error) {
        land(); // later readers must not get this failure
        const staleMs = (job.stale?.staleUntilMs ?? 0) - runtime.clock.now();
        const ms = Math.min(job.cooldownMs, staleMs); // later readers have no value to answer
        await this.release(key, lease, ms > 0 ? { text: lease, ms } : undefined);
      }
      land();
    };
    const filled = fillBehind();
    track(filled);
    // Who has a value renewed must not get the one before with the next read.
    return job.plan.options.refresh ? filled.then(() => flight.outcome) : flight.outcome;
  }

  /** Loads without storing: the store is unavailable, or the wait for another's load is over. */
  async unfenced<T>(key: string, plan: LoadPlan<T>): Promise<Lookup> {
    const { text } = await this.#load(key, { plan, versions: [] });
    return new Lookup("load", text, 0, false);
  }

  /**
   * The tags that fence a load: those of its options, and with `tagsOf` also those of the key's last value and
   * of the entry to replace.
   */
  namesOf(
    key: string,
    options: EntryOptions<never, unknown>,
    old?: Entry | string,
  ): readonly string[] {
    const names = tagNames(options);
    if (options.tagsOf === undefined) return names;
    const ofOld = typeof old === "object" ? old.tags.map(({ name }) => name) : [];
    return [...new Set([...names, ...this.#learned.get(key) ?? [], ...ofOld])].slice(
      0,
      1 + TAGS_MAX,
    );
  }

  /**
   * Makes the entry of a value that was loaded under these tag versions.
   *
   * @throws As {@linkcode entryOf}.
   * @throws {TypeError} A derived tag cannot be used.
   */
  loadedEntry<T>(
    key: string,
    value: T | null | undefined,
    { options, versions, costMs }: {
      readonly options: EntryOptions<T, unknown>;
      readonly versions: readonly TagVersion[];
      readonly costMs: number;
    },
  ): Entry {
    const entry = this.entryOf(key, value, { options, costMs });
    if (options.tagsOf === undefined) return { ...entry, tags: versions };
    const names = taggedNames(value, options);
    this.#learned.set(key, names.slice(1));
    const tags = versions.filter(({ name }) => names.includes(name));
    if (tags.length === names.length) return { ...entry, tags };
    // It is unknown whether the other tags were invalidated since the load began.
    return { ...entry, freshUntilMs: 0, staleUntilMs: 0 };
  }

  /** Loads after a stale answer, unless such a load is running. */
  refresh<T>(key: string, plan: LoadPlan<T>, old: OldEntry): void {
    const { track, emit, counters } = this.#parts;
    if (this.#refreshing.has(key) || this.#flights.get(key) !== undefined) return;
    this.#refreshing.add(key);
    counters.refreshes++;
    track(
      this.#refreshNow(key, plan, old)
        .catch((error: unknown) => emit({ type: "refresh-error", key, error }))
        .finally(() => this.#refreshing.delete(key)),
    );
  }

  /** Releases a lease. Never rejects: if it fails, the release stays pending. */
  async release(key: string, lease: string, successor?: Successor): Promise<void> {
    const { store, pending } = this.#parts;
    try {
      await store.release(key, lease, successor);
    } catch (_error) {
      // A server that hung may even grant the lease when it continues, and all readers would wait for a holder
      // that has given up.
      pending.addKeys([key]);
    }
  }

  /**
   * Makes the entry of a value, without its tags.
   *
   * @throws {TypeError} The value has no JSON form.
   * @throws {SchemaError} The value does not match its schema.
   * @throws {RangeError} A duration is not a number.
   */
  entryOf<T>(
    key: string,
    value: T | null | undefined,
    { options, costMs }: { readonly options: EntryOptions<T, unknown>; readonly costMs: number },
  ): Entry {
    const { runtime, settings } = this.#parts;
    const exists = value !== null && value !== undefined;
    const text = exists ? textOf(key, value, options) : null;
    if (options.schema !== undefined && text !== null) valueIn(text, options);
    const { ttlMs, graceMs, negativeTtlMs } = options;
    const freshMs = exists
      ? durationMs("ttlMs", (typeof ttlMs === "function" ? ttlMs(value) : ttlMs) ?? settings.ttlMs)
      : durationMs("negativeTtlMs", negativeTtlMs ?? settings.negativeTtlMs);
    const loadedAtMs = runtime.clock.now();
    const freshUntilMs = freshMs === 0
      ? loadedAtMs
      : loadedAtMs + jitteredTtlMs(freshMs, settings.jitterRatio, runtime.random());
    const hasGrace = exists && freshMs > 0;
    const staleUntilMs = freshUntilMs +
      (hasGrace ? durationMs("graceMs", graceMs ?? settings.graceMs) : 0);
    return { text, loadedAtMs, freshUntilMs, staleUntilMs, costMs, tags: [] };
  }

  async #refreshNow<T>(key: string, plan: LoadPlan<T>, old: OldEntry): Promise<void> {
    const { store, tags, newNonce } = this.#parts;
    const versions = await tags.ensure(this.namesOf(key, plan.options, old.entry));
    const lease = leaseOf(newNonce(), versions);
    const { holder } = await store.acquire(key, lease, old.mark);
    if (holder !== lease) return;
    const cooldownMs = REFRESH_COOLDOWN_MS;
    await this.underLease(key, lease, { plan, versions, cooldownMs, stale: old.entry });
  }

  async #load<T>(
    key: string,
    { plan, versions, stale }: Omit<LeasedLoad<T>, "cooldownMs">,
  ): Promise<Entry> {
    const { counters, emit, runtime } = this.#parts;
    const startedAtMs = runtime.clock.monotonicNow();
    counters.loads++;
    try {
      const value = await plan.load(stale);
      const costMs = runtime.clock.monotonicNow() - startedAtMs;
      record(counters.loadLatency, costMs);
      return this.loadedEntry(key, value, { options: plan.options, versions, costMs });
    } catch (error) {
      counters.loadErrors++;
      if (error instanceof LoadRejectedError) counters.rejectedLoads++;
      emit({ type: "load-error", key, error });
      throw error;
    }
  }

  /** Stores a loaded value, if the lease still stands. Answers true if it was stored. Never rejects. */
  async fill(key: string, lease: string, entry: Entry): Promise<boolean> {
    const { store, memory, runtime, counters, emit, keeps } = this.#parts;
    const ttlMs = entry.staleUntilMs - runtime.clock.now();
    // Only now: the tags of `tagsOf` are known once the value is loaded.
    const isKept = keeps(entry.tags.map(({ name }) => name));
    if (ttlMs <= 0 || isTooLarge(entry) || !isKept) {
      const unstorable = { text: unstorableMark(entry.tags), ms: UNSTORABLE_MS };
      await this.release(key, lease, store.source === "redis" ? unstorable : undefined);
      return false;
    }
    try {
      const stored = await store.fill(key, lease, entry);
      if (stored) {
        if (store.source === "redis") memory.drop([key]); // the feed tells of it later
        emit({ type: "fill", key, ttlMs, costMs: entry.costMs });
      } else {
        counters.refusedFills++;
        emit({ type: "fill-refused", key });
      }
      return stored;
    } catch (_error) {
      // Stored or not, the value under the key is valid, since the lease decided. If the lease still stands, no
      // reader should wait for its holder.
      await this.release(key, lease);
      return false;
    }
  }
}

/** The root tag, the tags of the options, and those derived from a value. */
export function taggedNames<T>(
  value: T | null | undefined,
  options: EntryOptions<T, unknown>,
): readonly string[] {
  const exists = value !== null && value !== undefined;
  const derived = exists ? options.tagsOf?.(value) : undefined;
  assertTags(derived);
  const tags = [...options.tags ?? [], ...derived ?? []];
  assertTags(tags);
  return [...new Set(tagNames({ tags }))];
}

/** True if the value of an entry has more bytes than may be stored. */
export function isTooLarge({ text }: Entry): boolean {
  if (text === null || text.length * 3 <= VALUE_BYTES_MAX) return false;
  return text.length > VALUE_BYTES_MAX || new TextEncoder().encode(text).length > VALUE_BYTES_MAX;
}

/** An entry that is not stored has no fresh life. */
function answerOf(entry: Entry): Lookup {
  const isStored = entry.staleUntilMs > entry.loadedAtMs && !isTooLarge(entry);
  return new Lookup("load", entry.text, isStored ? entry.freshUntilMs : 0, false);
}

/**
 * @throws {TypeError} The value has no JSON form or is a promise, or the codec wrote no text, or half of a surrogate
 * pair, which has no UTF-8.
 */
function textOf<T>(key: string, value: T, { codec }: EntryOptions<T, unknown>): string {
  if (typeof (value as { then?: unknown }).then === "function") {
    throw new TypeError(`Cannot store ${key}: its value is a promise, so await it first`);
  }
  if (codec === undefined) return value instanceof JsonText ? value.text : jsonOf(key, value);
  const text: unknown = codec.stringify(value);
  if (typeof text === "string" && text.isWellFormed()) return text;
  throw new TypeError(`Cannot store ${key}: its codec must write a string of whole characters`);
}

function jsonOf(key: string, value: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // that of a getter, or of toJSON()
    const why = `${error.message.replace(/\.$/, "")}. A codec can write what JSON cannot`;
    throw new TypeError(`Cannot store ${key}: ${why}`, { cause: error });
  }
  if (text !== undefined) return text;
  throw new TypeError(`Cannot store ${key}: its value has no JSON form`);
}
