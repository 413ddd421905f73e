/**
 * The change feed: every committed change of a watched table, whoever made it, applied to the cache.
 *
 * Triggers write one outbox row per statement in the writer's own transaction (see
 * `migrations/0002_change_feed.sql`), so a change and its invalidation are committed together or not
 * at all, and survive the death of the process between the commit and the delete.
 *
 * @module
 */
import { Outbox, type OutboxRow, type Place } from "./_outbox.ts";
import { Turn } from "./_turn.ts";
import type { Database, Subscription } from "../db/database.ts";
import { type Clock, systemClock, type Timer } from "../db/runtime.ts";

const CHANNEL = "lookaside_changes";
/** Rows that are applied at once: with at most 1,000 ids a row, a bound on what is held in memory. */
const BATCH_MAX = 100;
/** When to look again while what is caught up with is another relay's. */
const BUSY_POLL_MS = 20;
/** Before every row. */
const START: Place = { xid: "0", id: "0" };
const POLL_MS = 1_000;
const RETRY_MS_MAX = 2_000;
const LISTEN_RETRY_MS = 30_000;
const CLEAN_MS = 10_000;
const CLEAN_BATCH_MAX = 5_000;
const REPLAY_WINDOW_MS = 300_000;

/** A committed change of a watched table. */
export interface Change {
  /** The table, as `lookaside_watch` was given it. */
  readonly table: string;
  /** The ids of the rows that changed; `undefined`: any row may have. */
  readonly ids: readonly string[] | undefined;
}

/** Options of a {@linkcode ChangeFeed}. */
export interface ChangeFeedOptions {
  /** The cache that the changes are applied to. Instances that share a cache give the same name. */
  readonly cacheName: string;
  /** Whether the cache ends with this process. Then it is unregistered on close. Default false. */
  readonly cacheEnds?: boolean;
  /** Applies changes to the cache. Rejects when they have to be applied again. */
  readonly apply: (changes: readonly Change[]) => Promise<void>;
  /**
   * Invalidates all that the cache holds: nobody knows what it missed before it was registered.
   * Rejects when it has to be tried again.
   */
  readonly reset: () => Promise<void>;
  /** Whether to `LISTEN` for wake-ups. Default true. */
  readonly listen?: boolean;
  /** How often the outbox is looked at without a wake-up. Default 1,000. */
  readonly pollMs?: number;
  /** How long applied rows are kept for a replay. Default 300,000. */
  readonly replayWindowMs?: number;
  /** Called when Postgres or `apply` fails. The feed goes on by itself. */
  readonly onError?: (error: unknown) => void;
  /** Time. Default: the system's. */
  readonly clock?: Clock;
}

/** The figures of a {@linkcode ChangeFeed}: work done, and work left. */
export interface ChangeFeedStats {
  /** Outbox rows that this process has applied. */
  readonly applied: number;
  /** Changed ids that it has applied again in replays. */
  readonly replayed: number;
  /** Rows that are open for this cache, at most 10,000. */
  readonly backlog: number;
  /** Age of the oldest open row in milliseconds, 0 without one. */
  readonly lagMs: number;
}

/** How many rows a relay applied, or why it could not look. */
type Relayed = number | "busy" | "unregistered";

/** The step after a look: another one; one soon, at what is another's; one when something happens. */
type Next = "again" | "soon" | "idle";

/**
 * Relays outbox rows to one cache: selects those it has not applied, applies them, notes them, in
 * batches.
 *
 * Every row is for every registered cache. Every instance may run a feed; an advisory lock lets one
 * feed of each cache relay at a time, and a row whose relay dies is open again. It is no lock on the
 * rows, for that would hide a row which one cache holds from the others. Which feed goes at once when
 * all are woken, and when the others do, is decided by {@linkcode Turn}.
 *
 * There is no "id above the last one seen": ids are drawn before the commit, and so are transaction
 * ids, so a lower one may appear after a higher one. What is passed over for good is what lies below
 * the watermark: the oldest transaction that was running when the outbox was last found empty.
 */
export class ChangeFeed implements AsyncDisposable {
  readonly #database: Database;
  readonly #outbox: Outbox;
  readonly #options: ChangeFeedOptions;
  readonly #clock: Clock;
  readonly #turn = new Turn();
  #subscription: Subscription | undefined;
  #running: Promise<void> | undefined;
  #registering: Promise<void> | undefined;
  #wake: (() => void) | undefined;
  #woken = false;
  #closed = false;
  #applied = 0;
  #replayed = 0;
  /**
   * How far a run of full batches has come, and the horizon when it began. Without it each batch of a
   * backlog would look again at all that the batches before have applied. What commits behind it is
   * above the horizon, and found by the next pass.
   */
  #pass: { readonly after: Place; readonly horizon: string } | undefined;
  /** The rows that are not due yet. */
  readonly #later = new Map<"listen" | "clean", Timer>();

  /** Does nothing until {@linkcode ChangeFeed.start}. */
  constructor(database: Database, options: ChangeFeedOptions) {
    this.#database = database;
    this.#outbox = new Outbox(database, options.cacheName);
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Begins to relay. Does not wait for Postgres, which may be down. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Ends after the batch under way. Does not reject when Postgres is down. */
  async close(): Promise<void> {
    this.#closed = true;
    this.wake();
    await this.#running;
    for (const timer of this.#later.values()) timer.cancel();
    await this.#subscription?.close();
    if (this.#running === undefined || !this.#options.cacheEnds) return;
    try {
      await this.#outbox.unregister();
    } catch (error) {
      this.#options.onError?.(error); // it expires
    }
  }

  /** As {@linkcode ChangeFeed.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Looks at the outbox now instead of at the next poll. */
  wake(): void {
    this.#woken = true;
    this.#wake?.();
  }

  /**
   * Resolves when the cache is registered and every change that was committed before the call has been
   * applied to it, by whomever. With `replay`, also applies again what was applied within the replay
   * window: a Redis that restarted or failed over may have lost it.
   *
   * @throws {DatabaseUnavailableError} Postgres cannot say.
   */
  async catchUp(options: { readonly replay: boolean }): Promise<void> {
    await this.#register();
    const start = await this.#outbox.now();
    while (!this.#closed) {
      const relayed = await this.#relay();
      if (relayed === BATCH_MAX) continue;
      if (relayed === "unregistered") await this.#register();
      else if (await this.#outbox.isOpen(start) === false) break;
      else await this.#sleep(BUSY_POLL_MS);
    }
    // Behind the open ones, for one of them may be half done:
    //   1. a relay invalidates, and its transaction has not been committed yet
    //   2. Redis restarts, and has lost the invalidation
    //   3. a replay now would pass the row over: it is not noted as applied
    //   4. the relay commits, and the row is neither open nor replayed
    if (options.replay) await this.#replay();
  }

  /** Counters, and a look at the backlog. */
  async stats(): Promise<ChangeFeedStats> {
    const { count, lagMs } = await this.#outbox.backlog();
    return {
      applied: this.#applied,
      replayed: this.#replayed,
      backlog: count,
      lagMs,
    };
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    for (let failures = 0; !this.#closed;) {
      try {
        await this.#listenWhenDue();
        const next = await this.#look();
        failures = 0;
        if (next === "again") continue;
        await this.#cleanWhenDue();
        await this.#rest(next);
      } catch (error) {
        this.#options.onError?.(error);
        await this.#pause(Math.min(++failures * 50, RETRY_MS_MAX));
      }
    }
  }

  /** Relays what there is to relay, if it is this feed's turn. */
  async #look(): Promise<Next> {
    const woken = this.#woken;
    this.#woken = false;
    // The usual relay was woken by a row: a look without the lock would be one statement more.
    if (!woken || !this.#turn.isOurs || this.#turn.refused) {
      const glance = await this.#outbox.glance();
      if (glance === undefined) return await this.#registerAgain();
      const { openMs, unseen, relay } = glance;
      this.#turn.learn(relay);
      if (!unseen && openMs === null) {
        this.#turn.went(false);
        return "idle";
      }
      if (!unseen && openMs !== null && this.#turn.isAnothers(openMs)) return "soon";
    }
    let relayed: Relayed;
    do relayed = await this.#relay(); while (relayed === BATCH_MAX && !this.#closed);
    this.#turn.went(relayed === "busy");
    if (relayed === "unregistered") return await this.#registerAgain();
    return relayed === "busy" ? "soon" : "idle";
  }

  async #registerAgain(): Promise<Next> {
    await this.#register();
    return "again";
  }

  /**
   * Waits for the next look. What may be another's to relay is looked at after a while, and not each
   * time that the feed is woken: one look is enough for all the rows that were committed meanwhile.
   */
  async #rest(next: "soon" | "idle"): Promise<void> {
    const { pollMs = POLL_MS } = this.#options;
    if (next === "idle") {
      await this.#pause(pollMs);
      if (!this.#woken || this.#turn.isOurs) return;
    }
    await this.#pause(Math.min(this.#turn.waitMs, pollMs), { wakes: false });
  }

  /** A wake-up makes the feed prompt. Where there is none (PgBouncer, PGlite) polling has to do. */
  async #listenWhenDue(): Promise<void> {
    if (this.#options.listen === false || this.#subscription !== undefined) return;
    if (!this.#isDue("listen", LISTEN_RETRY_MS)) return;
    try {
      this.#subscription = await this.#database.listen(CHANNEL, () => this.wake());
    } catch (error) {
      this.#options.onError?.(error);
    }
  }

  /**
   * Registers the cache unless it is, and resets it unless that was done since.
   *
   * ```text
   * 1. writer: UPDATE, not committed; its row carries transaction id 700
   * 2. cache: registers with the oldest running transaction as its watermark, at most 700; commits
   * 3. cache: resets
   * 4. reader: loads the old version, and fills
   * 5. writer: commits; its row is not below the watermark: the relay finds it, and invalidates 4
   * ```
   *
   * What was committed before 2 has no row for this cache, and needs none: a load that begins after the
   * reset finds it in Postgres, and a load that began before cannot fill. So the registration must be
   * committed before the reset, and a crash between them must not pass for a reset: that is noted last.
   */
  #register(): Promise<void> {
    // Once for who relays and who catches up: a second reset would empty a cache that is in use.
    this.#registering ??= this.#registerAndReset().finally(() => this.#registering = undefined);
    return this.#registering;
  }

  async #registerAndReset(): Promise<void> {
    while (!this.#closed) {
      const registration = await this.#outbox.register();
      if (registration.reset) return;
      await this.#options.reset();
      // Forgotten and registered anew in the meantime: then the reset was too early.
      if (await this.#outbox.noteReset(registration)) return;
    }
  }

  /** Applies one batch of open rows and notes it. */
  async #relay(): Promise<Relayed> {
    let pass = this.#pass;
    const relayed = await this.#database.transaction(async (transaction): Promise<Relayed> => {
      if (!await this.#outbox.lock(transaction)) return "busy";
      const after = pass?.after ?? START;
      const position = await this.#outbox.open(transaction, after, BATCH_MAX);
      if (position === undefined) return "unregistered";
      const { rows, unseen, relay, horizon } = position;
      this.#turn.learn(relay); // before a failure, after which the other one is to go
      if (rows.length > 0) await this.#options.apply(merged(rows));
      pass = { after: rows.at(-1) ?? after, horizon: pass?.horizon ?? horizon };
      // An update is a transaction and moves the horizon by itself: not each time nothing happens.
      // But at the end of a pass: a backlog of whole batches would stay above the watermark for a while.
      if (rows.length > 0 || unseen || after !== START) {
        const watermark = rows.length < BATCH_MAX ? pass.horizon : null;
        await this.#outbox.note(transaction, rows, { feed: this.#turn.feed, watermark });
      }
      return rows.length;
    });
    this.#pass = relayed === BATCH_MAX ? pass : undefined;
    if (typeof relayed === "number" && relayed > 0) {
      this.#turn.learn(this.#turn.feed);
      this.#applied += relayed;
    }
    return relayed;
  }

  /**
   * Applies what was applied within the replay window again; open rows are the relay's. Each id once, or
   * the whole cache where that is too much or a reset is among it, so that it takes no longer the more
   * was written: nothing is read from Redis meanwhile.
   */
  async #replay(): Promise<void> {
    const windowMs = this.#options.replayWindowMs ?? REPLAY_WINDOW_MS;
    const rows = await this.#outbox.resetWithin(windowMs)
      ? undefined
      : await this.#outbox.appliedWithin(windowMs);
    if (rows === undefined) return await this.#options.reset();
    if (rows.length === 0) return;
    const changes = rows.map(({ table_name, id }) => ({
      table_name,
      ids: id === null ? null : [id],
    }));
    await this.#options.apply(merged(changes));
    this.#replayed += rows.length;
  }

  async #cleanWhenDue(): Promise<void> {
    if (!this.#isDue("clean", CLEAN_MS)) return;
    const windowMs = this.#options.replayWindowMs ?? REPLAY_WINDOW_MS;
    await this.#outbox.expireCaches(windowMs);
    const steps = [
      () => this.#outbox.removeRows(windowMs, CLEAN_BATCH_MAX),
      () => this.#outbox.removeOrphans(CLEAN_BATCH_MAX),
    ];
    for (const remove of steps) {
      while (!this.#closed && await remove() === CLEAN_BATCH_MAX);
    }
  }

  /** Whether `task` was not done within the last `everyMs`. Then it counts as done now. */
  #isDue(task: "listen" | "clean", everyMs: number): boolean {
    if (this.#later.has(task)) return false;
    this.#later.set(task, this.#clock.after(everyMs, () => this.#later.delete(task)));
    return true;
  }

  #sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => void this.#clock.after(delayMs, resolve));
  }

  /** Resolves after `delayMs`, as soon as the feed is closed or, if it `wakes`, woken. */
  async #pause(delayMs: number, { wakes = true } = {}): Promise<void> {
    const isOver = (): boolean => this.#closed || wakes && this.#woken;
    if (isOver()) return;
    let timer: Timer | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = () => {
        if (isOver()) resolve();
      };
      timer = this.#clock.after(delayMs, resolve);
    });
    timer?.cancel();
    this.#wake = undefined;
  }
}

/** One change per table: the same id changed twice is invalidated once. */
function merged(rows: readonly Pick<OutboxRow, "table_name" | "ids">[]): Change[] {
  const byTable = new Map<string, Set<string> | undefined>();
  for (const { table_name: table, ids } of rows) {
    const known = byTable.get(table);
    if (ids === null) byTable.set(table, undefined);
    else if (!byTable.has(table)) byTable.set(table, new Set(ids));
    else for (const id of ids) known?.add(id);
  }
  return [...byTable].map(([table, ids]) => ({ table, ids: ids && [...ids] }));
}
