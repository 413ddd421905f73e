import type { ChangeFollower, ChangeListener } from "./changes.ts";
import type { Entry } from "./entry.ts";
import { LocalStore } from "./local_store.ts";
import type { MemoryParts, MemoryTier } from "./memory_tier.ts";
import type { EngineParts } from "./parts.ts";
import { completed, within } from "./runtime.ts";
import type { Store } from "./store.ts";
import { ROOT_TAG } from "./tags.ts";

/** The longest time that {@linkcode Fallback.close} waits for the source of changes. */
const CLOSE_MS_MAX = 1_000;

/** The parts of an engine that a {@linkcode Fallback} uses. */
export type FallbackParts = MemoryParts & Pick<EngineParts, "server" | "emit" | "newNonce">;

/** The server that a {@linkcode Fallback} stands in for, and what else it needs from its engine. */
export interface FallbackOptions {
  /** Reports changes without the servers; `undefined`: there is no such source. */
  readonly follower: () => ChangeFollower | undefined;
  /** True if the server is unreachable or refuses commands. */
  readonly isAway: () => boolean;
  /** True if it is reachable and refuses commands. */
  readonly isRefusing: () => boolean;
  /** Catches up with the server, over its present connection, before it is read again. */
  readonly catchUp: () => void;
  /** Reopens the feed of the server with an empty memory. */
  readonly reopenFeed: () => void;
  /** Drops keys in this process, also for running reads. */
  readonly drop: (keys: readonly string[]) => void;
  /** Drops everything in this process. */
  readonly dropAll: () => void;
}

/**
 * Memory stands in for a server that is unreachable or refuses commands: this process keeps its loaded values, and
 * asks the source of changes directly, four times in each memory lease, what has changed.
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
 *
 * Writes go to the server too, and become pending if it does not take them.
 */
export class Fallback extends LocalStore {
  readonly #shared: Store;
  readonly #memory: MemoryTier;
  readonly #parts: FallbackParts;
  readonly #options: FallbackOptions;
  #following: AsyncDisposable | undefined;
  #closed = false;
  #closing: Promise<void> = Promise.resolve();

  constructor(shared: Store, memory: MemoryTier, parts: FallbackParts, options: FallbackOptions) {
    super(parts, memory);
    this.#shared = shared;
    this.#memory = memory;
    this.#parts = parts;
    this.#options = options;
  }

  /** True while memory stands in for the server. */
  get active(): boolean {
    return this.#following !== undefined;
  }

  /** True if there is a source of changes to follow. */
  get isPossible(): boolean {
    return this.#options.follower() !== undefined;
  }

  /** Begins or ends, if it is time. */
  check(): void {
    const { coherence } = this.#parts;
    if (this.#closed) return;
    // A feed that is open keeps memory correct for the moment that a breaker is open.
    const isGone = (): boolean =>
      this.#options.isRefusing() || !coherence.isFollowing() && this.#options.isAway();
    if (!this.active && isGone()) this.#begin();
    else if (this.active && !this.#options.isAway() && coherence.storeIsTrusted()) this.#end();
  }

  /** True if an entry with these tags may be kept now. */
  keeps(tags: readonly string[]): boolean {
    return !this.active || this.#covers(tags);
  }

  override async set(key: string, entry: Entry): Promise<void> {
    await super.set(key, entry);
    await this.#shared.set(key, entry);
  }

  override async invalidate(keys: readonly string[]): Promise<void> {
    await super.invalidate(keys);
    await this.#shared.invalidate(keys);
  }

  override async expire(keys: readonly string[]): Promise<void> {
    await super.expire(keys);
    await this.#shared.expire(keys);
  }

  override async writeTags(names: readonly string[], version: string): Promise<void> {
    await super.writeTags(names, version);
    await this.#shared.writeTags(names, version);
  }

  /** Ends for good. Does not wait for ever if the source of changes hangs. */
  override async close(): Promise<void> {
    this.#closed = true;
    this.#stop();
    await within(this.#parts.runtime.clock, CLOSE_MS_MAX, Promise.resolve(this.#closing));
  }

  #covers(tags: readonly string[]): boolean {
    const named = tags.filter((name) => name !== ROOT_TAG);
    return this.#options.follower()?.covers(named) ?? false;
  }

  #begin(): void {
    const { coherence, held, settings, server, emit } = this.#parts;
    const follower = this.#options.follower();
    if (follower === undefined) return;
    this.#memory.dropUnless(({ tags }) => this.#covers(tags.map(({ name }) => name)));
    this.adopt(held.all());
    const sinceMs = coherence.silentMs();
    coherence.fallback(true);
    this.#following = follower.follow(server, this.#listener(), {
      sinceMs,
      everyMs: settings.heartbeatMs,
      isAway: this.#options.isAway,
    });
    // From now on the server counts as behind, so it is caught up with before it is read again.
    this.#options.catchUp();
    emit({ type: "fallback", server, active: true });
  }

  #end(): void {
    const { coherence, server, emit } = this.#parts;
    this.#stop();
    coherence.fallback(false);
    this.#options.reopenFeed();
    emit({ type: "fallback", server, active: false });
  }

  #stop(): void {
    const following = this.#following;
    this.#following = undefined;
    if (following === undefined) return;
    this.#closing = completed([this.#closing, following[Symbol.asyncDispose]()]);
  }

  #listener(): ChangeListener {
    const { coherence, held, newNonce } = this.#parts;
    return {
      changed: ({ keys, tags }) => {
        this.#options.drop(keys);
        held.forget(tags);
        void super.invalidate(keys);
        void super.writeTags(tags, newNonce());
      },
      flushed: () => {
        this.#options.dropAll();
        this.adopt([]); // no load that began before may fill
      },
      alive: (sentAtMs) => {
        coherence.alive(sentAtMs);
        this.check();
      },
    };
  }
}
