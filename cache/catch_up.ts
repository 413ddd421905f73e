import type { CatchUpRequest } from "./changes.ts";
import type { Coherence } from "./coherence.ts";
import { retryDelayMs, type Runtime, type Timer } from "./runtime.ts";

const RETRY_MS_MAX = 500;
/** Time that a process which has just begun to store has to note whose server it is, and since when. */
const NOTED_MS = 500;
/** Interval at which the claim of a server is repeated, so that it counts as in use. */
const CLAIM_MS = 20_000;

/** Tells one life of a server from the next. */
export interface ServerLives {
  /** Identifies its current life: differs after a restart or failover. Rejects if it cannot be used. */
  identity(): Promise<string>;
  /** Answers the life in which a process last caught up with it, as stored there; empty: in one that is not known. */
  remembered(): Promise<string | null>;
  /** Stores there that it was caught up with in this life. */
  remember(identity: string): Promise<void>;
}

/** A server that has only one life. */
export const ONE_LIFE: ServerLives = {
  identity: () => Promise.resolve(""),
  remembered: () => Promise.resolve(null),
  remember: () => Promise.resolve(),
};

/** Options of a {@linkcode CatchUp}. */
export interface CatchUpOptions {
  readonly lives: ServerLives;
  /**
   * Makes sure that the server is not used for another source of truth; `undefined`: there is no source. With one, a
   * server without a remembered life may lack changes; otherwise it has no data of this cache.
   */
  readonly claim: (() => Promise<void>) | undefined;
  /** Applies the changes. */
  readonly task: (options: Pick<CatchUpRequest, "replay">) => Promise<void>;
  /** True to read the server of the first connection until it cannot be caught up with. */
  readonly readsAtOnce: boolean;
  /** Keeps a background promise until it settles. */
  readonly track: (work: Promise<void>) => void;
  /** Called when an attempt fails. */
  readonly onError: (error: unknown) => void;
  /** Called if the server turns out to be another one, before it may be read, or must be read no more. */
  readonly onMoved: () => void;
  /** Called when the server may be read again. */
  readonly onDone: (replayed: boolean) => void;
}

/**
 * Catches up before the server is trusted: after each connection, nothing is read until every invalidation that
 * was committed before it has been applied.
 *
 * ```text
 * 1. Redis acknowledges a delete, dies before it reaches the disk, and restarts with the old value
 * 2. reader: GET key -> the value that was invalidated
 * ```
 *
 * A process that joins a server does not replay changes that another has already replayed in the same life of
 * the server: that would invalidate entries cached since. The life is stored on the server itself, so a server
 * that restarts with an older copy of its data names an earlier life. A process that moves from another server
 * does replay:
 *
 * ```text
 * 1. A moves to the new primary, replays recent changes, and stores the life there
 * 2. B applies a change to the old primary, which acknowledges it
 * 3. B moves: the change of step 2 is on no server
 * ```
 */
export class CatchUp {
  readonly #runtime: Runtime;
  readonly #coherence: Coherence;
  readonly #options: CatchUpOptions;
  #identity: string | undefined;
  #attempt = 0;
  #claiming: Timer | undefined;
  #closed = false;

  constructor(runtime: Runtime, coherence: Coherence, options: CatchUpOptions) {
    this.#runtime = runtime;
    this.#coherence = coherence;
    this.#options = options;
    if (!options.readsAtOnce) coherence.storeFellBehind();
  }

  /** The connection is lost: answers to commands that were sent before are not believed. */
  lost(): void {
    this.#attempt++;
    this.#coherence.storeFellBehind();
  }

  /** Starts over, after a new connection. Resolves when it is done or superseded. */
  async begin(): Promise<void> {
    const attempt = ++this.#attempt;
    const { lives, claim, task, onError, onMoved, onDone } = this.#options;
    const readsAtOnce = this.#identity === undefined && this.#options.readsAtOnce;
    if (!readsAtOnce) this.#coherence.storeFellBehind();
    for (let failures = 0; attempt === this.#attempt && !this.#closed;) {
      try {
        // First: if the server is replaced meanwhile, the life remembered below is the earlier one.
        const identity = await lives.identity();
        const moved = this.#identity !== undefined && identity !== this.#identity;
        const known = moved ? null : this.#identity ?? await this.#remembered(attempt);
        if (attempt !== this.#attempt || this.#closed) return;
        await this.#claim();
        const replay = known !== identity && (moved || known !== null || claim !== undefined);
        await task({ replay });
        if (known !== identity) await lives.remember(identity);
        if (attempt !== this.#attempt) return;
        if (moved) onMoved();
        this.#identity = identity;
        this.#coherence.storeCaughtUp();
        onDone(replay);
        return;
      } catch (error) {
        if (this.#closed) return;
        // It may be a replica, which lags behind: nor may memory keep what was read there.
        if (readsAtOnce && failures === 0 && attempt === this.#attempt) {
          this.#coherence.storeFellBehind();
          onMoved();
        }
        onError(error);
        await this.#wait(retryDelayMs(++failures, RETRY_MS_MAX));
      }
    }
  }

  /** Ends the attempts, and claims no more. */
  close(): void {
    this.#closed = true;
    this.#claiming?.cancel();
  }

  /** Asks again where nothing is noted: another process may have begun at the same time. Meanwhile nothing is read. */
  async #remembered(attempt: number): Promise<string | null> {
    const { lives } = this.#options;
    const known = await lives.remembered();
    if (known !== "" || attempt !== this.#attempt) return known;
    this.#coherence.storeFellBehind();
    await this.#wait(NOTED_MS);
    return await lives.remembered();
  }

  #wait(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#runtime.clock.after(ms, resolve));
  }

  /** Claims now, and again later. */
  async #claim(): Promise<void> {
    const { claim, track } = this.#options;
    if (claim === undefined) return;
    await claim();
    this.#claiming?.cancel();
    if (this.#closed) return;
    // If a later claim fails, another attempt finds out whose server it is.
    this.#claiming = this.#runtime.clock.after(CLAIM_MS, () => {
      track(this.#claim().catch(() => this.begin()));
    });
  }
}
