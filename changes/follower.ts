import type { ChangeListener, Clock, FollowOptions } from "@lookaside/cache";
import { invalidatedNames, type Invalidates } from "./apply.ts";
import type { ChangesDatabase } from "./database.ts";
import { merged, Outbox } from "./_outbox.ts";
import { parseSnapshot } from "./_snapshot.ts";

/** Past this many rows in one look everything counts as changed. */
const ROWS_MAX = 1_000;
/** The snapshot of who has seen nothing. */
const NOTHING = "1:1:";

/** Options of a {@linkcode Follower}. */
export interface FollowerOptions extends FollowOptions {
  /** The cache, by the name that its relays use. */
  readonly cacheName: string;
  /** Names of what a change invalidates, by table, where they are not those of `table()`. */
  readonly invalidates?: Invalidates | undefined;
  /** Time. */
  readonly clock: Clock;
  /** Called when Postgres fails. It is asked again. */
  readonly onError: (error: unknown) => void;
}

/**
 * Reads the outbox for one process, beside the relays, and notes nothing there: each look finds what the
 * snapshot of the one before has not seen.
 */
export class Follower implements AsyncDisposable {
  readonly #outbox: Outbox;
  readonly #listener: ChangeListener;
  readonly #options: FollowerOptions;
  readonly #following: Promise<void>;
  #closed = false;
  #wake: (() => void) | undefined;
  /** The snapshot of the last look; `undefined`: none, so everything may have changed. */
  #seen: string | undefined;

  constructor(database: ChangesDatabase, listener: ChangeListener, options: FollowerOptions) {
    this.#outbox = new Outbox(database, options.cacheName);
    this.#listener = listener;
    this.#options = options;
    this.#following = this.#follow();
  }

  /** Ends after the look under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#wake?.();
    await this.#following;
  }

  /** Never rejects. */
  async #follow(): Promise<void> {
    const { clock, everyMs, sinceMs, onError } = this.#options;
    const startedAtMs = clock.monotonicNow();
    while (!this.#closed) {
      const askedAtMs = clock.monotonicNow();
      try {
        // The longer it takes to ask, the further back.
        const silentMs = sinceMs + askedAtMs - startedAtMs;
        if (Number.isFinite(silentMs)) this.#seen ??= await this.#outbox.seenBefore(silentMs);
        await this.#look(clock.monotonicNow());
      } catch (error) {
        onError(error);
      }
      await this.#pause(everyMs);
    }
  }

  async #pause(delayMs: number): Promise<void> {
    if (this.#closed) return;
    await new Promise<void>((resolve) => {
      const timer = this.#options.clock.after(delayMs, resolve);
      this.#wake = () => {
        timer.cancel();
        resolve();
      };
    });
  }

  async #look(sentAtMs: number): Promise<void> {
    const known = this.#seen;
    const look = await this.#outbox.since(known ?? NOTHING, known === undefined ? 0 : ROWS_MAX);
    if (look === undefined || this.#closed) return;
    const { now, rows } = look;
    // A database that was taken back to an earlier time has seen less than the look before.
    const isEarlier = known !== undefined &&
      parseSnapshot(now).xmax < parseSnapshot(known).xmax;
    if (known === undefined || isEarlier || rows.length === ROWS_MAX) this.#listener.flushed();
    else if (rows.length > 0) {
      this.#listener.changed(invalidatedNames(merged(rows), this.#options.invalidates));
    }
    this.#seen = now;
    this.#listener.alive(sentAtMs);
  }
}
