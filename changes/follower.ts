import type { ChangeListener, Clock, FollowOptions } from "@lookaside/cache";
import { invalidatedNames, type Invalidates } from "./apply.ts";
import type { ChangesDatabase } from "./database.ts";
import { merged } from "./_changed_row.ts";
import { Outbox } from "./_outbox.ts";
import { parseSnapshot } from "./_snapshot.ts";

/** If one look finds more rows than this, everything counts as changed. */
const ROWS_MAX = 1_000;
/** A snapshot in which nothing is visible. */
const NOTHING = "1:1:";

/** Options of a {@linkcode Follower}. */
export interface FollowerOptions extends FollowOptions {
  /** The name of the cache, as its relays use it. */
  readonly cacheName: string;
  /** Names that a change invalidates, by table, for entries that `table()` has not named. */
  readonly invalidates?: Invalidates | undefined;
  /** The clock. */
  readonly clock: Clock;
  /** Called if Postgres fails, which is retried. */
  readonly onError: (error: unknown) => void;
}

/**
 * Reads the outbox for one process, besides the relays, and writes nothing to it: each look finds the rows that
 * were not visible in the snapshot of the previous one.
 */
export class Follower implements AsyncDisposable {
  readonly #outbox: Outbox;
  readonly #listener: ChangeListener;
  readonly #options: FollowerOptions;
  readonly #following: Promise<void>;
  #closed = false;
  #woken = false;
  #wake: (() => void) | undefined;
  /** The snapshot of the last look; `undefined`: there is none, so everything may have changed. */
  #seen: string | undefined;

  constructor(database: ChangesDatabase, listener: ChangeListener, options: FollowerOptions) {
    this.#outbox = new Outbox(database, options.cacheName);
    this.#listener = listener;
    this.#options = options;
    this.#following = this.#follow();
  }

  /** True while the server that memory replaces cannot be reached. */
  isAway(): boolean {
    return this.#options.isAway();
  }

  /** Looks now, or again after the running look. */
  wake(): void {
    this.#woken = true;
    this.#wake?.();
  }

  /** Ends after the running look. */
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
      this.#woken = false;
      try {
        // The longer the question takes, the further back to look.
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
    if (this.#closed || this.#woken) return;
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
    // A database that was restored to an earlier time shows less than the previous look.
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
