import type { ChangeListener, Clock, FollowOptions } from "@lookaside/cache";
import { invalidatedNames, type Invalidates } from "./apply.ts";
import type { ChangesDatabase } from "./database.ts";
import { merged } from "./_changed_row.ts";
import { Outbox } from "./_outbox.ts";
import { parseSnapshot } from "./_snapshot.ts";

/** If one look finds more rows than this, or more names than it may, everything counts as changed. */
const ROWS_MAX = 1_000;
/** Rows stay for longer than this after they were written, also if every cache has applied them. */
const KEPT_MS = 300_000;
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
  /** The outcome of the next look: true if it told of everything. */
  #next = nextLook();
  /** The snapshot of the last look; `undefined`: there is none, so everything may have changed. */
  #seen: string | undefined;
  /** The registration of the cache for which everything must have been dropped, and the one for which it was. */
  #registration: string | undefined;
  #droppedFor: string | undefined;
  /** The monotonic time before that look; `Infinity`: this process has not looked yet. */
  #lookedAtMs = Infinity;

  constructor(database: ChangesDatabase, listener: ChangeListener, options: FollowerOptions) {
    this.#outbox = new Outbox(database, options.cacheName);
    this.#listener = listener;
    this.#options = options;
    this.#following = this.#follow();
  }

  /** True while the server that memory stands in for cannot be reached. */
  isAway(): boolean {
    return this.#options.isAway();
  }

  /** Looks now, or again after the running look. */
  wake(): void {
    this.#woken = true;
    this.#wake?.();
  }

  /**
   * Looks, and answers true once everything committed before the call has been told; false if it has ended, or
   * nothing is kept for the cache.
   *
   * @throws Postgres has failed.
   */
  looked(): Promise<boolean> {
    const { promise } = this.#next;
    this.wake();
    return promise;
  }

  /** Drops everything, once for each registration: the database may be another than before. */
  startOver(registration: string): void {
    if (registration === this.#registration) return;
    this.#registration = registration;
    this.wake();
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
      this.#woken = false;
      const look = this.#next;
      this.#next = nextLook();
      try {
        this.#seen ??= await this.#seenAt(startedAtMs - sinceMs);
        look.resolve(await this.#look(clock.monotonicNow()));
      } catch (error) {
        onError(error);
        look.reject(error);
      }
      await this.#pause(everyMs);
    }
    this.#next.resolve(false);
  }

  /**
   * The snapshot of the last look that was noted before a monotonic time of this process. The server's time is read
   * first, and everything that this takes is subtracted, so the look is rather one too early:
   *
   * ```text
   * 1. process: hears the last announcement, and asks for the look of now
   * 2. relay:   applies a change to a server that this process no longer hears, and notes it
   * 3. server:  answers the look of step 2, in which the change has been seen
   * ```
   */
  async #seenAt(atMs: number): Promise<string | undefined> {
    if (!Number.isFinite(atMs)) return undefined;
    const serverMs = await this.#outbox.nowMs();
    return await this.#outbox.seenBefore(serverMs - (this.#options.clock.monotonicNow() - atMs));
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

  async #look(sentAtMs: number): Promise<boolean> {
    // After a long outage of Postgres, rows that this process has not seen may have been removed.
    const isLate = sentAtMs - this.#lookedAtMs > KEPT_MS;
    const registration = this.#registration;
    const known = isLate || registration !== this.#droppedFor ? undefined : this.#seen;
    const look = await this.#outbox.since(known ?? NOTHING, known === undefined ? 0 : ROWS_MAX);
    if (look === undefined || this.#closed) return false;
    const { now, rows, isPart } = look;
    // A database that was restored to an earlier time shows less than the previous look.
    const isEarlier = known !== undefined &&
      parseSnapshot(now).xmax < parseSnapshot(known).xmax;
    if (known === undefined || isEarlier || isPart) this.#listener.flushed();
    else if (rows.length > 0) {
      this.#listener.changed(invalidatedNames(merged(rows), this.#options.invalidates));
    }
    this.#seen = now;
    this.#droppedFor = registration;
    this.#lookedAtMs = sentAtMs;
    this.#listener.alive(sentAtMs);
    return true;
  }
}

function nextLook(): PromiseWithResolvers<boolean> {
  const look = Promise.withResolvers<boolean>();
  look.promise.catch(() => undefined); // perhaps nobody waits for it
  return look;
}
