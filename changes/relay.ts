/**
 * The change feed: every committed change of a watched table, whoever made it, applied to the cache.
 *
 * Triggers write one outbox row per statement in the writer's own transaction (see `schema.ts`), so a change
 * and its invalidation are committed together or not at all, and survive the death of the process between
 * the commit and the delete.
 *
 * @module
 */
import type { OwnWrite } from "@lookaside/cache";
import { type Change, type Invalidated, invalidatedBy } from "./apply.ts";
import type { ChangesDatabase } from "./database.ts";
import { checkWatched, type WatchProblem } from "./install.ts";
import { Chores } from "./_chores.ts";
import { Horizon, LIMITS, type Limits, problemsOf, type RelayProblem } from "./health.ts";
import { Marks } from "./_marks.ts";
import { GRACE_MS, type Look, merged, Outbox, type OutboxRow } from "./_outbox.ts";
import { OwnWrites } from "./_own_writes.ts";
import { Registration } from "./_registration.ts";
import { parseSnapshot, without } from "./_snapshot.ts";
import { type Clock, sleep, systemClock, type Timer } from "./runtime.ts";
import { Turn } from "./_turn.ts";

const CHANNEL = "lookaside_changes";
/** Rows that are applied at once: with at most 1,000 keys a row, a bound on what is held in memory. */
const BATCH_MAX = 100;
/** Rows of one look from which on the next look follows so soon that writers need not ring. */
const BUSY_ROWS_MIN = 3;
/** Rows that follow one another within so much, so many times, have the same effect. */
const FOLLOW_MS = 50;
const FOLLOWS_MIN = 3;
/** When to look again while there is much to relay: the later, the more one look takes. */
const BUSY_POLL_MS = 10;
/** Looks that find nothing before a feed rests. */
const QUIET_LOOKS_MAX = 4;
/** For how long a busy feed promises to look by itself: longer than it takes to where all are busy. */
const PROMISE_MS = 200;
/** How often a feed that listens asks to be rung. */
const RING_MS = 10_000;
/** When to look again while writers may be left that were promised a look, and when to leave that. */
const DRAIN_POLL_MS = 10;
const DRAIN_MS_MAX = 1_000;
/** When to look again while what is caught up with is another relay's. */
const WAIT_POLL_MS = 20;
/** How long catching up leaves rows to the usual relay. */
const PATIENCE_MS = 200;
const POLL_MS = 1_000;
/** How often to look where no writer rings. */
const SILENT_POLL_MS = 100;
const RETRY_MS_MAX = 2_000;
const LISTEN_RETRY_MS = 30_000;
const CLEAN_MS = 10_000;
const CLEAN_STEP_MS = 50;
const CHECK_MS = 60_000;
const REPLAY_WINDOW_MS = 300_000;

/** Options of a {@linkcode ChangeFeed}. */
export interface ChangeFeedOptions {
  /** The cache that the changes are applied to. Instances that share a cache give the same name. */
  readonly cacheName: string;
  /** Whether the cache ends with this process. Then it is unregistered on close. Default false. */
  readonly cacheEnds?: boolean;
  /** Applies changes to the cache, and invalidates further names. Rejects when it has to be done again. */
  readonly apply: (changes: readonly Change[], names: readonly Invalidated[]) => Promise<void>;
  /**
   * Invalidates all that the cache holds: nobody knows what it missed before it was registered.
   * Rejects when it has to be tried again.
   */
  readonly reset: () => Promise<void>;
  /** Whether to `LISTEN` for wake-ups, where the database can. Default true. */
  readonly listen?: boolean;
  /** How often the outbox is looked at without a wake-up. Default 1,000. */
  readonly pollMs?: number;
  /** How long applied rows are kept for a replay. Default 300,000. */
  readonly replayWindowMs?: number;
  /** Names this process in the marks of its writes, the same for all of its feeds. Default: another one each. */
  readonly writer?: string;
  /** Names of all that depends on a change. Default: those of `table()`. */
  readonly namesOf?: (change: Change) => Invalidated;
  /** Called when Postgres or `apply` fails. The feed goes on by itself. */
  readonly onError?: (error: unknown) => void;
  /** Called each minute with whatever a person has to put right: of a watched table, or of the relaying. */
  readonly onProblem?: (problem: WatchProblem | RelayProblem) => void;
  /** When the relaying is a problem. */
  readonly limits?: Partial<Limits>;
  /** Time. Default: the system's. */
  readonly clock?: Clock;
}

/** Figures of a {@linkcode ChangeFeed}: what it did, and what is left to do. */
export interface ChangeFeedStats {
  /** Outbox rows that this process has applied. */
  readonly applied: number;
  /** Changed names that it has applied again in replays. */
  readonly replayed: number;
  /** Rows that are open for this cache, at most 10,000. */
  readonly backlog: number;
  /** Age of the oldest open row in milliseconds, 0 without one. */
  readonly lagMs: number;
  /** How long the oldest transaction that has written is open, in milliseconds, as far as the feed has seen. */
  readonly heldMs: number;
  /** Size of the outbox. */
  readonly bytes: number;
}

/** How many rows a relay found, or why it could not look. */
type Relayed = number | "outrun" | "unregistered";

/** Step after a look: another one; one soon, at what is another's; one when something happens. */
type Next = "again" | "soon" | "busy" | "idle";

/**
 * Relays outbox rows to one cache: looks for those it has not applied, applies them, notes the look.
 *
 * Every row is for every registered cache. Every instance may run a feed; which goes at once when all are
 * woken, and when the others do, is decided by {@linkcode Turn}. Nothing is locked: looks are numbered, and
 * of two that began behind the same one, the second cannot be noted. Then rows were applied twice, which is
 * no harm, and none is passed over: a look is noted only by the feed that has applied what it found.
 *
 * There is no "id above the last one seen": ids are drawn before the commit, and so are transaction
 * ids, so a lower one may appear after a higher one. What is passed over is what the snapshot of the last
 * complete look has seen, and a transaction that was open then is not among it, however long it stays so.
 */
export class ChangeFeed implements AsyncDisposable {
  readonly #database: ChangesDatabase;
  readonly #outbox: Outbox;
  readonly #options: ChangeFeedOptions;
  readonly #clock: Clock;
  readonly #registration: Registration;
  readonly #chores: Chores;
  readonly #turn = new Turn();
  readonly #marks: Marks;
  readonly #ownWrites: OwnWrites;
  #subscription: AsyncDisposable | undefined;
  #running: Promise<void> | undefined;
  #relaying: Promise<unknown> = Promise.resolve();
  #wake: (() => void) | undefined;
  #woken = false;
  #closed = false;
  #silent = false;
  #applied = 0;
  #replayed = 0;
  #caughtUp = 0;
  /** Whether this feed has promised to look by itself. */
  #promised = false;
  /** Looks since one that found something. */
  #quietLooks = 0;
  /** Looks that found something shortly after another one had. */
  #follows = 0;
  readonly #horizon = new Horizon();
  /** The last look, to notice a database that was taken back to an earlier time. */
  #last = { xmin: 0n, xmax: 0n };

  /** Does nothing until {@linkcode ChangeFeed.start}. */
  constructor(database: ChangesDatabase, options: ChangeFeedOptions) {
    this.#database = database;
    this.#outbox = new Outbox(database, options.cacheName);
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#marks = new Marks(options.writer ?? this.#turn.feed, options.namesOf ?? invalidatedBy);
    this.#registration = new Registration(this.#outbox, {
      reset: () => options.reset(),
      keepMs: options.replayWindowMs ?? REPLAY_WINDOW_MS,
      isClosed: () => this.#closed,
    });
    this.#chores = new Chores(this.#clock, (error) => options.onError?.(error));
    this.#ownWrites = new OwnWrites({
      marks: this.#marks,
      outbox: this.#outbox,
      chores: this.#chores,
      isShared: !options.cacheEnds,
      isRelay: () => this.#turn.relayedLast,
      onError: (error) => options.onError?.(error),
    });
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
    await this.#chores[Symbol.asyncDispose]();
    await this.#subscription?.[Symbol.asyncDispose]();
    if (this.#running === undefined) return;
    try {
      // Or writers would not ring for the others until it is over.
      if (this.#promised) await this.#outbox.takeBackPromise();
      if (this.#options.cacheEnds) await this.#outbox.unregister();
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
   * Begins a write whose invalidation this process sees to itself. Its rows are left alone for a second then,
   * and for good once everything is invalidated that depends on them. With a mark of this process's, which
   * another feed has given, or a new one.
   */
  beginWrite(mark?: string): Promise<OwnWrite> {
    return this.#ownWrites.begin(mark);
  }

  /**
   * Resolves when the cache is registered and every change that was committed before the call has been
   * applied to it, by whomever. With `replay`, also applies again what was applied within the replay
   * window: a Redis that restarted or failed over may have lost it.
   *
   * @throws {DatabaseUnavailableError} Postgres cannot say.
   */
  async catchUp({ replay }: { readonly replay: boolean }): Promise<void> {
    const isFirst = this.#caughtUp++ === 0;
    await this.#registration.register();
    const start = await this.#outbox.snapshot();
    for (let waitedMs = 0; !this.#closed;) {
      const found = await this.#outbox.isOpen(start);
      if (found === undefined) await this.#registration.register();
      else if (!found.open) break;
      else if (found.feed === null || found.feed === this.#turn.feed || waitedMs >= PATIENCE_MS) {
        await this.#relayAll({ holds: false });
      } else {
        await sleep(this.#clock, WAIT_POLL_MS);
        waitedMs += WAIT_POLL_MS;
      }
    }
    // Behind the open ones, for one of them may be half done:
    //   1. a relay invalidates, and has not noted that yet
    //   2. Redis restarts, and has lost the invalidation
    //   3. a replay now would pass the row over: it is not noted as applied
    //   4. the relay notes it, and the row is neither open nor replayed
    // What was reset over the first connection of this process has nothing to be told again.
    if (replay && !(isFirst && this.#registration.hasReset)) await this.#replay();
  }

  /** Counters, and a look at the backlog. */
  async stats(): Promise<ChangeFeedStats> {
    const { count, lagMs, bytes } = await this.#outbox.backlog();
    const { heldMs } = this.#horizon;
    return {
      ...{ applied: this.#applied, replayed: this.#replayed },
      ...{ backlog: count, lagMs, heldMs, bytes },
    };
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    for (let failures = 0; !this.#closed;) {
      try {
        await this.#listenWhenDue();
        await this.#askToRingWhenDue();
        const next = await this.#look();
        failures = 0;
        this.#doChores();
        if (next === "busy") await sleep(this.#clock, BUSY_POLL_MS);
        else if (this.#promised) await this.#drain();
        else if (next !== "again") await this.#rest(next);
      } catch (error) {
        this.#options.onError?.(error);
        await this.#pause(Math.min(++failures * 50, RETRY_MS_MAX));
        // The server that comes back may be another one.
        if (!this.#closed) {
          await this.#registration.renew().catch((error) => this.#options.onError?.(error));
        }
      }
    }
  }

  /** Relays what there is to relay, if it is this feed's turn. */
  async #look(): Promise<Next> {
    const woken = this.#woken;
    this.#woken = false;
    // The usual relay was woken by a row.
    if (!woken && !this.#promised || !this.#turn.isOurs || this.#turn.outrun) {
      const glance = await this.#outbox.look(1);
      if (glance === undefined) return await this.#registerAgain();
      this.#horizon.note(glance.now, glance.nowMs);
      const { openMs, unseen, feed } = glance;
      this.#turn.learn(feed);
      if (!unseen && openMs === null) {
        this.#turn.went(false);
        return "idle";
      }
      if (!unseen && openMs !== null && this.#turn.isAnothers(openMs)) return "soon";
    }
    const relayed = await this.#relayAll({ holds: true });
    this.#turn.went(relayed === "outrun");
    if (relayed === "unregistered") return await this.#registerAgain();
    if (relayed === "outrun") return "soon";
    this.#quietLooks = relayed > 0 ? 0 : this.#quietLooks + 1;
    return this.#promised && this.#quietLooks < QUIET_LOOKS_MAX ? "busy" : "idle";
  }

  async #registerAgain(): Promise<Next> {
    await this.#registration.register();
    return "again";
  }

  /**
   * Looks after the writers that were promised a look, and may commit behind it:
   *
   * ```text
   * 1. relay: promises to look within the next 40 ms
   * 2. writer: UPDATE; sees the promise and does not ring
   * 3. relay: finds little, and rests until somebody rings
   * 4. writer: COMMIT
   * ```
   *
   * So it takes its promise back, after which writers ring, looks until all that had begun before have ended,
   * and once more. One that stays open for longer is found by the poll.
   */
  async #drain(): Promise<void> {
    const next = await this.#outbox.takeBackPromise();
    this.#promised = false;
    for (let leftMs = DRAIN_MS_MAX; leftMs > 0 && !this.#closed; leftMs -= DRAIN_POLL_MS) {
      const { xmin } = parseSnapshot(await this.#outbox.snapshot());
      this.#woken = true;
      if (await this.#look() === "busy") return;
      if (xmin >= next) return;
      await this.#pause(DRAIN_POLL_MS);
    }
  }

  /**
   * Waits for the next look. What may be another's to relay is looked at after a while, and not each
   * time that the feed is woken: one look is enough for all the rows that were committed meanwhile.
   */
  async #rest(next: "soon" | "idle"): Promise<void> {
    const { pollMs: wishedMs = POLL_MS } = this.#options;
    // Or nobody would ring any more.
    const pollMs = this.#subscription === undefined ? wishedMs : Math.min(wishedMs, RING_MS);
    if (next === "idle") {
      await this.#pause(this.#silent ? Math.min(pollMs, SILENT_POLL_MS) : pollMs);
      if (!this.#woken || this.#turn.isOurs) return;
    }
    await this.#pause(Math.min(this.#turn.waitMs, pollMs), { wakes: false });
  }

  /** A wake-up makes the feed prompt. Where there is none (PgBouncer, PGlite) polling has to do. */
  async #listenWhenDue(): Promise<void> {
    if (this.#options.listen === false || this.#subscription !== undefined) return;
    if (this.#database.listen === undefined || !this.#chores.isDue("listen", LISTEN_RETRY_MS)) {
      return;
    }
    this.#silent = await this.#outbox.isSilent();
    try {
      this.#subscription = await this.#database.listen(CHANNEL, () => this.wake(), (error) => {
        this.#subscription = undefined;
        if (error !== undefined) this.#options.onError?.(error);
        this.wake();
      });
    } catch (error) {
      this.#options.onError?.(error);
    }
  }

  /** Before the look that finds what was written until then. */
  async #askToRingWhenDue(): Promise<void> {
    if (this.#subscription === undefined || this.#promised) return;
    if (this.#chores.isDue("ring", RING_MS)) await this.#outbox.askToRing();
  }

  /** Relays batch after batch until there is less than one left. */
  async #relayAll(how: { readonly holds: boolean }): Promise<Relayed> {
    let relayed: Relayed;
    do relayed = await this.#relay(how); while (relayed === BATCH_MAX && !this.#closed);
    return relayed;
  }

  /** Applies one batch of open rows and notes it. One after the other: the loop and who catches up. */
  #relay(how: { readonly holds: boolean }): Promise<Relayed> {
    const relayed = this.#relaying.then(() => this.#relayBatch(how));
    this.#relaying = relayed.catch(() => undefined);
    return relayed;
  }

  async #relayBatch({ holds }: { readonly holds: boolean }): Promise<Relayed> {
    const look = await this.#outbox.look(BATCH_MAX);
    if (look === undefined) return "unregistered";
    if (this.#wentBack(look.now)) {
      await this.#registration.renew(true);
      return "unregistered";
    }
    const { rows, unseen, pass, now, feed, others } = look;
    this.#horizon.note(now, look.nowMs);
    this.#turn.learn(feed); // before a failure, after which the other one is to go
    const isPart = rows.length === BATCH_MAX;
    // The next part begins behind the last row of this one, so none can be held back.
    const { due, names, held } = holds
      ? this.#marks.split(rows, { holds: !isPart })
      : { due: rows, names: [], held: NONE };
    const applies = due.length + names.length;
    if (applies > 0) await this.#options.apply(merged(due), names);
    if (rows.length - held.size === 0 && !unseen && pass === null) return this.#left(held.size);
    const isBusy = this.#isBusy(look);
    const noted = await this.#outbox.note(look, {
      seen: isPart ? look.seen : without(pass ?? now, held),
      pass: isPart ? { snapshot: pass ?? now, after: last(rows) } : undefined,
      feed: rows.length > 0 ? this.#turn.feed : undefined,
      promiseMs: isBusy ? PROMISE_MS : undefined,
      wakes: others && rows.length > 0 && this.#promised,
    });
    if (!noted) return "outrun";
    if (isBusy) this.#promised = true;
    if (rows.length > 0) this.#turn.learn(this.#turn.feed);
    this.#applied += applies;
    return isPart ? BATCH_MAX : rows.length === 0 ? 0 : this.#left(held.size, rows.length);
  }

  /** Whether the next rows are so near that they are worth no wake-up. Nobody needs one who is not woken. */
  #isBusy({ rows: { length: rows }, agoMs }: Look): boolean {
    if (rows === 0 || this.#subscription === undefined) return false;
    this.#follows = agoMs < FOLLOW_MS ? this.#follows + 1 : 0;
    return this.#promised || rows >= BUSY_ROWS_MIN || this.#follows >= FOLLOWS_MIN;
  }

  /** Looks again by itself at rows that were left to their writers. */
  #left(held: number, rows = 0): number {
    if (held > 0) this.#chores.soon("held", GRACE_MS / 10, () => this.wake());
    return rows;
  }

  /** Whether the database is one of an earlier time: its transactions never go back by themselves. */
  #wentBack(now: string): boolean {
    const { xmin, xmax } = parseSnapshot(now);
    const back = xmax < this.#last.xmax;
    this.#last = { xmin, xmax };
    return back;
  }

  /**
   * Applies what was applied within the replay window again; open rows are the relay's. Each name once, or
   * the whole cache where that is too much or a reset is among it, so that it takes no longer the more
   * was written: nothing is read from Redis meanwhile.
   */
  async #replay(): Promise<void> {
    const changes = await this.#outbox.resetLately()
      ? undefined
      : await this.#outbox.appliedLately();
    if (changes === undefined) return await this.#options.reset();
    if (changes.length === 0) return;
    await this.#options.apply(changes, []);
    this.#replayed += changes.reduce((sum, { keys }) => sum + (keys?.length ?? 1), 0);
  }

  /** Begins what is due beside the relaying: the usual relay does it for all. */
  #doChores(): void {
    this.#chores.whenDue("clean", CLEAN_MS, async () => {
      if (this.#turn.isOurs) await this.#chores.repeat(() => this.#outbox.clean(), CLEAN_STEP_MS);
    });
    this.#chores.whenDue("check", CHECK_MS, async () => {
      if (!this.#turn.isOurs) return;
      await this.#registration.renew();
      for (const problem of await checkWatched(this.#database)) this.#options.onProblem?.(problem);
      const { heldBy } = this.#horizon;
      const limits = { ...LIMITS, ...this.#options.limits };
      for (const problem of problemsOf({ ...await this.stats(), heldBy }, limits)) {
        this.#options.onProblem?.(problem);
      }
    });
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

const NONE: ReadonlySet<string> = new Set();

function last(rows: readonly OutboxRow[]): OutboxRow {
  const row = rows.at(-1);
  if (row === undefined) throw new Error("Cannot relay changes: a batch has no row");
  return row;
}
