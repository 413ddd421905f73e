import { Buffer } from "node:buffer";
import { decodeEntry, encodeEntry, type Entry, storedMark } from "../../cache/entry.ts";
import { Keyspace } from "../../cache/keys.ts";
import { leaseOf } from "../../cache/lease.ts";
import type { Clock, Timer } from "../../cache/runtime.ts";
import type { Acquired, FeedListener, Store, Stored, Successor } from "../../cache/store.ts";
import { ROOT_TAG } from "../../cache/tags.ts";
import { type Gate, SimulatedFeed } from "./simulated_feed.ts";

/** Longest duration of a lease. */
const LEASE_MS = 5_000;

/** Options of a {@linkcode SimulatedServer}. */
export interface SimulatedServerOptions {
  /** Time, for expiry and heartbeats. */
  readonly clock: Clock;
  /** Decides when each step is taken. Default: at once. */
  readonly gate?: Gate;
}

/** Options of {@linkcode SimulatedServer.connect}. */
export interface ConnectOptions {
  /** How often the feed is asked for a sign of life. Default: once, when it opens. */
  readonly heartbeatMs?: number;
  /** `false`: the feed never opens, so the memory tier is never trusted. */
  readonly feed?: boolean;
  /** A command that is given up at once, and takes effect when that time has passed. Default: none. */
  readonly late?: Late | undefined;
}

/** The command from 0 that is late, and how late it is. */
export interface Late {
  readonly nth: number;
  readonly ms: number;
}

/**
 * A Redis in this process, shared by several caches: what {@linkcode Store} promises, with every effect,
 * reply and feed message a step of its own.
 *
 * As in Redis, deleting what isn't there announces nothing, and a lease is a key like any other.
 */
export class SimulatedServer {
  /** Decides when each step is taken. */
  gate: Gate;
  /** Commands that have taken effect, by name. */
  readonly commands: Map<string, number> = new Map();
  /** How often keys were read. Counts do not decay here. */
  readonly popular: Map<string, number> = new Map();
  readonly #clock: Clock;
  readonly #keyspace = new Keyspace("la", 1);
  readonly #data = new Map<string, Datum>();
  readonly #stores = new Set<SimulatedStore>();
  #nextExpiryMs = Infinity;

  constructor(options: SimulatedServerOptions) {
    this.#clock = options.clock;
    this.gate = options.gate ?? (() => Promise.resolve());
  }

  /** A handle for one cache. */
  connect(name: string, options: ConnectOptions = {}): SimulatedStore {
    const store = new SimulatedStore({
      name,
      server: this,
      clock: this.#clock,
      keyspace: this.#keyspace,
      options,
    });
    this.#stores.add(store);
    return store;
  }

  /** The Redis keys of leases that stand. */
  leases(): string[] {
    this.#expire();
    return [...this.#data.keys()].filter((key) => key.includes(":lease:{"));
  }

  /** What is stored under the value of a logical key. */
  bytesOf(key: string): Uint8Array | undefined {
    return this.read(this.#keyspace.of(key, ""))?.bytes;
  }

  /** What stands under a Redis key. */
  read(redisKey: string): Datum | undefined {
    this.#expire();
    return this.#data.get(redisKey);
  }

  /** Writes a Redis key, and announces it. */
  write(redisKey: string, datum: Datum): void {
    this.#data.set(redisKey, datum);
    this.#nextExpiryMs = Math.min(this.#nextExpiryMs, datum.expiresAtMs);
    this.#announce(redisKey);
  }

  /** Deletes a Redis key, and announces it if it was there. */
  remove(redisKey: string): void {
    if (this.#data.delete(redisKey)) this.#announce(redisKey);
  }

  /** What someone else's `SET` on the value of a logical key would do. */
  plant(key: string, bytes: Uint8Array): void {
    this.write(this.#keyspace.of(key, ""), { bytes, expiresAtMs: Infinity });
  }

  /** `FLUSHALL`. */
  flush(): void {
    this.#data.clear();
    for (const store of this.#stores) store.announceFlush();
  }

  /** Forgets a handle that was closed. */
  disconnect(store: SimulatedStore): void {
    this.#stores.delete(store);
  }

  #announce(redisKey: string): void {
    for (const store of this.#stores) store.announce(redisKey);
  }

  /** Removes what has run out, looking only when something has. */
  #expire(): void {
    const nowMs = this.#clock.monotonicNow();
    if (nowMs < this.#nextExpiryMs) return;
    this.#nextExpiryMs = Infinity;
    for (const [key, { expiresAtMs }] of this.#data) {
      if (expiresAtMs <= nowMs) this.remove(key);
      else this.#nextExpiryMs = Math.min(this.#nextExpiryMs, expiresAtMs);
    }
  }
}

/** What stands under a key: the bytes of a value, or a text. */
export interface Datum {
  readonly bytes?: Uint8Array;
  readonly text?: string;
  /** On the monotonic clock. */
  readonly expiresAtMs: number;
}

interface Wiring {
  readonly name: string;
  readonly server: SimulatedServer;
  readonly clock: Clock;
  readonly keyspace: Keyspace;
  readonly options: ConnectOptions;
}

/** One cache's connection to a {@linkcode SimulatedServer}. */
export class SimulatedStore implements Store {
  readonly source = "redis";
  readonly #wiring: Wiring;
  /** What the server announces to this cache. */
  readonly #feed: SimulatedFeed;
  #calls = 0;
  #owed: Timer | undefined;
  #closed = false;

  /** Use {@linkcode SimulatedServer.connect}. */
  constructor(wiring: Wiring) {
    this.#wiring = wiring;
    const { name, clock, server, options } = wiring;
    this.#feed = new SimulatedFeed({
      name,
      clock,
      gate: (step) => server.gate(step),
      heartbeatMs: options.heartbeatMs,
    });
  }

  /** True while a command that was given up has not taken effect yet. */
  get owes(): boolean {
    return this.#owed !== undefined;
  }

  /** Announces a change of a key, if the feed is open. */
  announce(redisKey: string): void {
    this.#feed.announce(redisKey);
  }

  /** Announces that everything was deleted, if the feed is open. */
  announceFlush(): void {
    this.#feed.announceFlush();
  }

  get(key: string): Promise<Stored | null> {
    return this.#call("get", key, (server, keys) => storedOf(server.read(keys.of(key, ""))?.bytes));
  }

  acquire(key: string, lease: string, seen: Uint8Array | undefined): Promise<Acquired> {
    const { clock } = this.#wiring;
    return this.#call("acquire", key, (server, keys) => {
      const bytes = server.read(keys.of(key, ""))?.bytes;
      if (
        bytes !== undefined && bytes.length > 0 &&
        (seen === undefined || Buffer.compare(storedMark(bytes), seen) !== 0)
      ) return { holder: "", stored: storedOf(bytes) };
      const held = server.read(keys.of(key, ":lease"))?.text;
      if (held?.endsWith(lease.slice(lease.indexOf(" ")))) return { holder: held, stored: null };
      const expiresAtMs = clock.monotonicNow() + LEASE_MS;
      server.write(keys.of(key, ":lease"), { text: lease, expiresAtMs });
      return { holder: lease, stored: null };
    });
  }

  fill(key: string, lease: string, entry: Entry): Promise<boolean> {
    return this.#call("fill", key, (server, keys) => {
      if (server.read(keys.of(key, ":lease"))?.text !== lease) return false;
      server.write(keys.of(key, ""), this.#datumOf(entry));
      server.remove(keys.of(key, ":lease"));
      return true;
    });
  }

  release(key: string, lease: string, successor?: Successor): Promise<void> {
    const { clock } = this.#wiring;
    return this.#call("release", key, (server, keys) => {
      const redisKey = keys.of(key, ":lease");
      if (server.read(redisKey)?.text !== lease) return;
      if (successor === undefined) return server.remove(redisKey);
      const expiresAtMs = clock.monotonicNow() + successor.ms;
      server.write(redisKey, { text: successor.text, expiresAtMs });
    });
  }

  /** As on Redis, under a lease. */
  async set(key: string, entry: Entry): Promise<void> {
    const { clock } = this.#wiring;
    const text = leaseOf(crypto.randomUUID(), entry.tags);
    const old = await this.#call("set", key, (server, keys) => {
      server.write(keys.of(key, ":lease"), { text, expiresAtMs: clock.monotonicNow() + LEASE_MS });
      return server.read(keys.of(key, ""))?.bytes;
    });
    const isStored = await this.fill(key, text, entry);
    if (isStored) return;
    await this.#call("drop", key, (server, keys) => {
      if (server.read(keys.of(key, ""))?.bytes === old) server.remove(keys.of(key, ""));
    });
  }

  async invalidate(keys: readonly string[]): Promise<void> {
    await Promise.all(keys.map((key) =>
      this.#call("invalidate", key, (server, names) => {
        server.remove(names.of(key, ""));
        server.remove(names.of(key, ":lease"));
      })
    ));
  }

  async expire(keys: readonly string[]): Promise<void> {
    await Promise.all(keys.map((key) =>
      this.#call("expire", key, (server, names) => {
        server.remove(names.of(key, ":lease"));
        const bytes = server.read(names.of(key, ""))?.bytes;
        const entry = bytes && decodeEntry(bytes);
        const nowMs = this.#wiring.clock.now();
        if (typeof entry !== "object" || entry.freshUntilMs <= nowMs) return;
        const staleUntilMs = nowMs + entry.staleUntilMs - entry.freshUntilMs;
        const expired = { ...entry, freshUntilMs: nowMs, staleUntilMs };
        if (staleUntilMs === nowMs) server.remove(names.of(key, ""));
        else server.write(names.of(key, ""), this.#datumOf(expired));
      })
    ));
  }

  readTags(names: readonly string[]): Promise<(string | null)[]> {
    return Promise.all(
      names.map((name) =>
        this.#call(
          "readTag",
          name,
          (server, keys) => server.read(keys.of(name, ":tag"))?.text ?? null,
        )
      ),
    );
  }

  createTags(names: readonly string[], version: string): Promise<string[]> {
    return Promise.all(names.map((name) =>
      this.#call("createTag", name, (server, keys) => {
        const held = server.read(keys.of(name, ":tag"))?.text;
        if (held === undefined) {
          server.write(keys.of(name, ":tag"), { text: version, expiresAtMs: Infinity });
        }
        return held ?? version;
      })
    ));
  }

  async writeTags(names: readonly string[], version: string): Promise<void> {
    await Promise.all(names.map((name) =>
      this.#call("writeTag", name, (server, keys) => {
        if (name === ROOT_TAG) {
          server.write(keys.of(name, ":tag"), { text: version, expiresAtMs: Infinity });
        } else {
          server.remove(keys.of(name, ":tag"));
        }
      })
    ));
  }

  follow(listener: FeedListener): void {
    this.#feed.follow(listener);
    if (this.#wiring.options.feed !== false) void this.openFeed();
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#owed?.cancel();
    this.#feed.close();
    this.#wiring.server.disconnect(this);
    return Promise.resolve();
  }

  /** Connects the feed. */
  openFeed(): Promise<void> {
    return this.#feed.open();
  }

  /** The feed stops without a word: what was under way is lost, and no sign of life comes any more. */
  silenceFeed(): void {
    this.#feed.silence();
  }

  /** The cache notices that the feed is gone. */
  closeFeed(reason: string): void {
    this.#feed.lose(reason);
  }

  #datumOf(entry: Entry): Datum {
    const { clock } = this.#wiring;
    const ttlMs = entry.staleUntilMs - clock.now();
    return { bytes: encodeEntry(entry, Infinity), expiresAtMs: clock.monotonicNow() + ttlMs };
  }

  async #call<T>(command: string, key: string, effect: Effect<T>): Promise<T> {
    const { name, server, keyspace, clock, options: { late } } = this.#wiring;
    const step = `${name} ${command} ${key}`;
    const take = (): T => {
      server.commands.set(command, (server.commands.get(command) ?? 0) + 1);
      return effect(server, keyspace);
    };
    if (this.#calls++ === late?.nth) {
      this.#owed = clock.after(late.ms, () => {
        this.#owed = undefined;
        take();
      });
      throw new Error(`Cannot ${command}: it was given up`);
    }
    await server.gate(step);
    if (this.#closed) throw new Error(`Cannot ${command}: the connection is closed`);
    const reply = take();
    await server.gate(`${step}: reply`);
    if (this.#closed) throw new Error(`Cannot ${command}: the connection is closed`);
    return reply;
  }
}

type Effect<T> = (server: SimulatedServer, keys: Keyspace) => T;

function storedOf(bytes: Uint8Array | undefined): Stored | null {
  if (bytes === undefined) return null;
  return { entry: decodeEntry(bytes), mark: storedMark(bytes), bytes: bytes.length };
}
