import type { ChangeFollower, ChangeListener } from "./changes.ts";
import type { Entry } from "./entry.ts";
import type { LocalStore } from "./local_store.ts";
import type { EngineParts } from "./parts.ts";
import { completed } from "./runtime.ts";
import type { Acquired, AcquireOptions, FeedListener, Store, Stored, Successor } from "./store.ts";
import { ROOT_TAG } from "./tags.ts";

/** The parts that a {@linkcode Fallback} works with. */
export interface FallbackOptions {
  /** Reports changes without the servers; `undefined`: there is no such source. */
  readonly follower: () => ChangeFollower | undefined;
  /** The name of the server that memory replaces. */
  readonly server: string;
  /** True if the server is unreachable or refuses commands. */
  readonly isAway: () => boolean;
  /** True if it is reachable and refuses commands. */
  readonly isRefusing: () => boolean;
  /** Catches up with the server, over its present connection, before it is read again. */
  readonly catchUp: () => void;
  /** Reopens the feed of the server with an empty memory. */
  readonly followAnew: () => void;
  /** Drops keys in this process, also for running reads. */
  readonly drop: (keys: readonly string[]) => void;
  /** Drops everything in this process. */
  readonly dropAll: () => void;
}

/**
 * Memory replaces a server that is unreachable or refuses commands: this process keeps its loaded values, and asks
 * the source of changes directly, four times in each memory lease, what has changed.
 *
 * Entries that were already in memory stay. The feed announced everything applied to the server up to its last
 * sign of life, and the source reports everything committed since:
 *
 * ```text
 * 1. feed:   alive at t0                        -> what had changed on the server before t0 is dropped here
 * 2. server: dies
 * 3. source: reports what was not applied at t0 -> that is dropped, and the rest may be trusted
 * ```
 *
 * Only entries whose tags the source reports are kept: for others, another process's invalidation would arrive
 * through the server alone. Once the server is back and may be trusted, its feed reopens and everything is
 * dropped, since a server does not announce changes of keys that it does not have.
 */
export class Fallback implements Store {
  readonly #shared: Store;
  readonly #local: LocalStore;
  readonly #options: FallbackOptions;
  #following: AsyncDisposable | undefined;
  #closed = false;
  #closing: Promise<void> = Promise.resolve();

  constructor(shared: Store, local: LocalStore, options: FallbackOptions) {
    this.#shared = shared;
    this.#local = local;
    this.#options = options;
  }

  get source(): "redis" | "memory" {
    return this.#store.source;
  }

  /** True while memory replaces the server. */
  get active(): boolean {
    return this.#following !== undefined;
  }

  /** True if there is a source of changes to follow. */
  get isPossible(): boolean {
    return this.#options.follower() !== undefined;
  }

  /** Begins or ends the replacement, if it is time. `parts` are those of the engine, which contain this store. */
  check(parts: EngineParts): void {
    const { coherence } = parts;
    if (this.#closed) return;
    // A feed that is open keeps memory correct for the moment that a breaker is open.
    const isGone = (): boolean =>
      this.#options.isRefusing() || !coherence.isOpen && this.#options.isAway();
    if (!this.active && isGone()) this.#begin(parts);
    else if (this.active && !this.#options.isAway() && coherence.storeIsRight()) this.#end(parts);
  }

  /** True if an entry with these tags may be kept now. */
  keeps(tags: readonly string[]): boolean {
    return !this.active || this.#covers(tags);
  }

  get(key: string): Promise<Stored | null> {
    return this.#store.get(key);
  }

  acquire(key: string, lease: string, options: AcquireOptions): Promise<Acquired> {
    return this.#store.acquire(key, lease, options);
  }

  /** Checks the tags here too: those of `tagsOf` are known only once the value is loaded. */
  fill(key: string, lease: string, entry: Entry): Promise<boolean> {
    if (this.#isKept(entry)) return this.#store.fill(key, lease, entry);
    return this.#local.release(key, lease).then(() => false);
  }

  release(key: string, lease: string, successor?: Successor): Promise<void> {
    return this.#store.release(key, lease, successor);
  }

  readTags(names: readonly string[]): Promise<(string | null)[]> {
    return this.#store.readTags(names);
  }

  createTags(names: readonly string[], version: string): Promise<string[]> {
    return this.#store.createTags(names, version);
  }

  async set(key: string, entry: Entry): Promise<void> {
    if (this.active && this.#isKept(entry)) await this.#local.set(key, entry);
    await this.#shared.set(key, entry);
  }

  async invalidate(keys: readonly string[]): Promise<void> {
    if (this.active) await this.#local.invalidate(keys);
    await this.#shared.invalidate(keys);
  }

  async expire(keys: readonly string[]): Promise<void> {
    if (this.active) await this.#local.expire(keys);
    await this.#shared.expire(keys);
  }

  async writeTags(names: readonly string[], version: string): Promise<void> {
    if (this.active) await this.#local.writeTags(names, version);
    await this.#shared.writeTags(names, version);
  }

  /** Passes on the announcements of the server, unless memory replaces it. */
  follow(listener: FeedListener): void {
    const unlessActive =
      <Args extends unknown[]>(tell: (...args: Args) => void) => (...args: Args) => {
        if (!this.active) tell(...args);
      };
    this.#shared.follow({
      opened: unlessActive(listener.opened),
      closed: unlessActive(listener.closed),
      alive: unlessActive(listener.alive),
      changed: unlessActive(listener.changed),
      flushed: unlessActive(listener.flushed),
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#stop();
    await this.#closing;
    await this.#shared.close();
  }

  get #store(): Store {
    return this.active ? this.#local : this.#shared;
  }

  #isKept({ tags }: Entry): boolean {
    return this.keeps(tags.map(({ name }) => name));
  }

  #covers(tags: readonly string[]): boolean {
    const named = tags.filter((name) => name !== ROOT_TAG);
    return this.#options.follower()?.covers(named) ?? false;
  }

  #begin(parts: EngineParts): void {
    const { coherence, memory, held, settings, emit } = parts;
    const { server } = this.#options;
    const follower = this.#options.follower();
    if (follower === undefined) return;
    memory.dropUnless(({ tags }) => this.#covers(tags.map(({ name }) => name)));
    this.#local.adopt(held.all());
    const sinceMs = coherence.silentMs();
    coherence.standIn(true);
    this.#following = follower.follow(server, this.#listener(parts), {
      sinceMs,
      everyMs: settings.heartbeatMs,
      isAway: this.#options.isAway,
    });
    // From now on the server counts as behind, so it is caught up with before it is read again.
    this.#options.catchUp();
    emit({ type: "fallback", server, active: true });
  }

  #end({ coherence, emit }: EngineParts): void {
    this.#stop();
    coherence.standIn(false);
    this.#options.followAnew();
    emit({ type: "fallback", server: this.#options.server, active: false });
  }

  #stop(): void {
    const following = this.#following;
    this.#following = undefined;
    if (following === undefined) return;
    this.#closing = completed([this.#closing, following[Symbol.asyncDispose]()]);
  }

  #listener(parts: EngineParts): ChangeListener {
    const { coherence, held, newNonce } = parts;
    return {
      changed: ({ keys, tags }) => {
        this.#options.drop(keys);
        held.forget(tags);
        void this.#local.invalidate(keys);
        void this.#local.writeTags(tags, newNonce());
      },
      flushed: () => {
        this.#options.dropAll();
        this.#local.adopt([]); // no load that began before may fill
      },
      alive: (sentAtMs) => {
        coherence.alive(sentAtMs);
        this.check(parts);
      },
    };
  }
}
