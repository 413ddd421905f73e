import type { CatchUpRequest } from "./changes.ts";
import type { Coherence } from "./coherence.ts";
import { retryDelayMs, type Runtime } from "./runtime.ts";

const RETRY_MS_MAX = 500;

/** Options of a {@linkcode CatchUp}. */
export interface CatchUpOptions {
  /** Makes sure that the server is nobody else's. */
  readonly claim: () => Promise<void>;
  /** Catches up. */
  readonly task: (options: Pick<CatchUpRequest, "replay">) => Promise<void>;
  /** Tells one life of the server from the next: differs after a restart or failover. */
  readonly identity: () => Promise<string>;
  /** Whether a server that remembers nothing may lack changes: otherwise it has nothing of this cache. */
  readonly emptyIsOld: boolean;
  /** Answers the life of the server that whoever shares it has caught up with, as the server has it. */
  readonly remembered: () => Promise<string | null>;
  /** Has the server remember that it was caught up with in this life. */
  readonly remember: (identity: string) => Promise<void>;
  /** Called when an attempt fails. */
  readonly onError: (error: unknown) => void;
  /** Called when the server turns out to be another one, before it may be read. */
  readonly onMoved: () => void;
  /** Called when the server may be read again. */
  readonly onDone: (replayed: boolean) => void;
}

/**
 * Catch-up before trust: after each connection nothing is read from the server until every invalidation
 * that was committed before has been applied.
 *
 * ```text
 * 1. Redis acknowledges a delete, dies before it reaches the disk, and restarts with the old value
 * 2. reader: GET key -> the value that was invalidated
 * ```
 *
 * Whoever joins a server does not apply again what those before have applied again in the same life of it:
 * that would invalidate what they have cached since. The server itself remembers the life, so one that
 * restarts with an older copy of its data names a life that is over. Whoever comes from another server does:
 *
 * ```text
 * 1. A moves to the new primary, applies again what was applied, and has the server remember that
 * 2. B applies a change to the old primary, which acknowledges it
 * 3. B moves: what it applied at 2 is on no server
 * ```
 */
export class CatchUp {
  readonly #runtime: Runtime;
  readonly #coherence: Coherence;
  readonly #options: CatchUpOptions;
  #identity: string | undefined;
  #attempt = 0;
  #closed = false;

  constructor(runtime: Runtime, coherence: Coherence, options: CatchUpOptions) {
    this.#runtime = runtime;
    this.#coherence = coherence;
    this.#options = options;
    coherence.doubt();
  }

  /** The connection is lost: what was asked before must not be believed when it is answered. */
  lost(): void {
    this.#attempt++;
    this.#coherence.doubt();
  }

  /** Begins anew, because a connection was made. Resolves when it is done or superseded. */
  async begin(): Promise<void> {
    const attempt = ++this.#attempt;
    this.#coherence.doubt();
    for (let failures = 0; attempt === this.#attempt && !this.#closed;) {
      try {
        const identity = await this.#options.identity();
        await this.#options.claim();
        const moved = this.#identity !== undefined && identity !== this.#identity;
        const known = moved ? null : this.#identity ?? await this.#options.remembered();
        const replay = known !== identity && (moved || known !== null || this.#options.emptyIsOld);
        await this.#options.task({ replay });
        if (known !== identity) await this.#options.remember(identity);
        if (attempt !== this.#attempt) return;
        if (moved) this.#options.onMoved();
        this.#identity = identity;
        this.#coherence.believe();
        this.#options.onDone(replay);
        return;
      } catch (error) {
        if (this.#closed) return;
        this.#options.onError(error);
        const delayMs = retryDelayMs(++failures, RETRY_MS_MAX);
        await new Promise<void>((resolve) => void this.#runtime.clock.after(delayMs, resolve));
      }
    }
  }

  /** Ends the attempts. */
  close(): void {
    this.#closed = true;
  }
}
