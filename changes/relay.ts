/**
 * The relay: applies every committed change of a watched table to the cache, regardless of who made it.
 *
 * Triggers write one outbox row per statement in the writer's own transaction (see `schema.ts`). So a change and
 * its invalidation are committed together or not at all, and a process that dies between commit and delete loses
 * nothing.
 *
 * @module
 */
import type { ChangesStats, InvalidatedNames, OwnWrite } from "@lookaside/cache";
import { type Change, invalidatedBy } from "./apply.ts";
import type { ChangesDatabase } from "./database.ts";
import { checkWatched, outdated } from "./install.ts";
import { ASK_MS, Notifications } from "./_notifications.ts";
import { merged } from "./_changed_row.ts";
import { Chores } from "./_chores.ts";
import type { Follower } from "./follower.ts";
import { type ChangesProblem, Horizon, LIMITS, type Limits, problemsOf } from "./health.ts";
import { Marks } from "./_marks.ts";
import { GRACE_MS, Outbox, type OutboxRow } from "./_outbox.ts";
import { OwnWrites } from "./_own_writes.ts";
import { Registration } from "./_registration.ts";
import { parseSnapshot, without } from "./_snapshot.ts";
import { type Clock, sleep, systemClock, type Timer } from "./runtime.ts";
import { UsualRelay } from "./_usual_relay.ts";

/** Limit of rows applied at once; that of their keys and values is `NAMES_MAX`. */
const BATCH_MAX = 100;
/** Delay before the next look while much is written; a longer one takes more rows at once. */
const BUSY_POLL_MS = 10;
/** Number of looks without a row after which a relay rests, however often it is notified. */
const QUIET_LOOKS_MAX = 4;
/** Time for which a busy relay promises to poll, longer than a look takes on a busy machine. */
const PROMISE_MS = 200;
/** Delay between looks for writers that relied on a promise, and the limit of all these delays. */
const DRAIN_POLL_MS = 10;
const DRAIN_MS_MAX = 1_000;
/** Delay before the next look while another relay must apply the rows of a catch-up. */
const WAIT_POLL_MS = 20;
/** Time for which catching up leaves rows to the usual relay. */
const PATIENCE_MS = 200;
const POLL_MS = 1_000;
/** Interval of polling if writers do not notify. */
const SILENT_POLL_MS = 100;
/** Shortest delay before the next look while the cache's server is away, and every row stays open. */
const AWAY_POLL_MS = 50;
const RETRY_MS_MAX = 2_000;
const CLEAN_MS = 10_000;
const CLEAN_STEP_MS = 50;
const CHECK_MS = 60_000;
/** The longest life of an entry by default, with jitter and grace: an older one that Redis brings back has expired. */
const REPLAY_WINDOW_MS = 390_000;

/** Options of a {@linkcode ChangeFeed}. */
export interface ChangeFeedOptions {
  /** The name of the cache. Instances that share a cache use the same name. */
  readonly cacheName: string;
  /** True if the cache ends with this process. Then it is unregistered on close. Default false. */
  readonly cacheEnds?: boolean;
  /** Applies changes to the cache, and invalidates further names. Rejects if this must be repeated. */
  readonly apply: (changes: readonly Change[], names: readonly InvalidatedNames[]) => Promise<void>;
  /**
   * Looks for changes for this process alone, while memory stands in for the cache's server and that cannot be reached.
   * The relay then leaves all rows open: to apply them would drop what they changed from memory at each attempt.
   * Default: nothing does.
   */
  readonly follower?: () => Pick<Follower, "wake"> | undefined;
  /**
   * Invalidates everything in the cache: it is unknown which changes it missed before it was registered. Rejects
   * if it must be repeated, then with the same name of the registration.
   */
  readonly reset: (registration?: string) => Promise<void>;
  /** True to `LISTEN` for notifications, if the database can. Default true. */
  readonly listen?: boolean;
  /** Interval at which the outbox is polled without a notification. Default 1,000. */
  readonly pollMs?: number;
  /** Time for which applied rows are kept for a replay. Default 390,000. */
  readonly replayWindowMs?: number;
  /**
   * The name of this process in the marks of its writes, the same for all of its relays. Default: a name for
   * this relay.
   */
  readonly writer?: string;
  /** The names of entries that depend on a change. Default: those of `table()`. */
  readonly namesOf?: (change: Change) => InvalidatedNames;
  /** Called if Postgres or `apply` fails. The relay retries. */
  readonly onError?: (error: unknown) => void;
  /** Called each minute with each problem that a person must fix: of a watched table, or of relaying. */
  readonly onProblem?: (problem: ChangesProblem) => void;
  /** Limits beyond which relaying is a problem. */
  readonly limits?: Partial<Limits>;
  /** The clock. Default: the system's. */
  readonly clock?: Clock;
}

/** The number of rows that a relay found, or the reason why it did not apply them. */
type Relayed = number | "overtaken" | "unregistered" | "away";

/**
 * The step after a look: look again; look soon, at rows of another relay; look soon, because much is written; wait
 * a moment, because the cache's server is away; wait.
 */
type Next = "again" | "soon" | "busy" | "away" | "idle";

/**
 * Relays outbox rows to one cache: looks for rows that it has not applied, applies them, notes the look.
 *
 * Every row is for every registered cache. Every instance may run a relay; {@linkcode UsualRelay} decides which
 * goes first after a notification. Nothing is locked: looks are numbered, and if two relays look at the same time, the
 * second cannot note its look. Its rows were then applied twice, which is harmless. None is missed, because a relay
 * notes a look only after it has applied its rows.
 *
 * "Ids above the last one seen" would miss rows: ids and transaction ids are assigned before the commit, so a
 * lower one may appear after a higher one. Instead, those rows count as applied that are visible in the snapshot of
 * the last complete look. One statement reads rows and snapshot, so a row that a look could not see yet is not visible
 * in its snapshot either, however long its transaction stays open.
 */
export class ChangeFeed implements AsyncDisposable {
  readonly #database: ChangesDatabase;
  readonly #outbox: Outbox;
  readonly #options: ChangeFeedOptions;
  readonly #clock: Clock;
  readonly #onError: (error: unknown) => void;
  readonly #registration: Registration;
  readonly #chores: Chores;
  readonly #notifications: Notifications;
  readonly #usual = new UsualRelay();
  readonly #marks: Marks;
  readonly #ownWrites: OwnWrites;
  #running: Promise<void> | undefined;
  #relaying: Promise<unknown> = Promise.resolve();
  #wake: (() => void) | undefined;
  #woken = false;
  #closed = false;
  #applied = 0;
  #replayed = 0;
  #caughtUp = 0;
  /** Number of looks since the last one that found a row. */
  #quietLooks = 0;
  readonly #horizon = new Horizon();
  /** The last look, to notice a database that was restored to an earlier time. */
  #last = { xmin: 0n, xmax: 0n };

  /** Does nothing until {@linkcode ChangeFeed.start}. */
  constructor(database: ChangesDatabase, options: ChangeFeedOptions) {
    this.#database = database;
    this.#outbox = new Outbox(database, options.cacheName);
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#onError = options.onError ?? (() => undefined);
    this.#marks = new Marks(options.writer ?? this.#usual.id, options.namesOf ?? invalidatedBy);
    this.#registration = new Registration(database, options.cacheName, {
      reset: options.reset,
      keepMs: options.replayWindowMs ?? REPLAY_WINDOW_MS,
      isClosed: () => this.#closed,
    });
    this.#chores = new Chores(this.#clock, this.#onError);
    this.#notifications = new Notifications({
      database,
      outbox: this.#outbox,
      chores: this.#chores,
      onError: this.#onError,
      onNotification: () => this.wake(),
    });
    this.#ownWrites = new OwnWrites({
      marks: this.#marks,
      outbox: this.#outbox,
      chores: this.#chores,
      isShared: !options.cacheEnds,
      isRelay: () => this.#usual.relayedLast,
      onError: this.#onError,
    });
  }

  /** Starts to relay. Does not wait for Postgres, which may be down. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Ends after the running batch. Does not reject if Postgres is down. */
  async close(): Promise<void> {
    this.#closed = true;
    this.wake();
    const chores = this.#chores[Symbol.asyncDispose](); // at once, for its timers: the batch may hang
    await this.#running;
    await chores;
    try {
      // Otherwise writers would not notify the others until the promise ends.
      if (this.#notifications.hasPromised) await this.#outbox.takeBackPromise();
      if (this.#options.cacheEnds && this.#running) await this.#registration.delete();
    } catch (error) {
      this.#onError(error); // it expires
    }
    await this.#notifications[Symbol.asyncDispose](); // last, since a connection may hang
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
   * Begins a write that this process invalidates itself. Its rows are left alone for a second, and for good once
   * everything that depends on them is invalidated. `mark` is that of another relay of this process. Default: a
   * new one.
   */
  beginWrite(mark?: string): Promise<OwnWrite> {
    return this.#ownWrites.begin(mark);
  }

  /**
   * Resolves when the cache is registered and every change committed before the call is applied to it, by any
   * relay. With `replay`, also applies the changes of the replay window again: a Redis that restarted or failed
   * over may have lost them.
   *
   * @throws {DatabaseUnavailableError} Postgres is unavailable.
   */
  async catchUp({ replay }: { readonly replay: boolean }): Promise<void> {
    const isFirst = this.#caughtUp++ === 0;
    await this.#registration.register();
    const start = await this.#outbox.snapshot();
    for (let waitedMs = 0; !this.#closed;) {
      const found = await this.#outbox.isOpen(start);
      if (found === undefined) await this.#registration.register();
      else if (!found.open) break;
      else if (found.relay === null || found.relay === this.#usual.id || waitedMs >= PATIENCE_MS) {
        await this.#relayAll({ catchesUp: true });
      } else {
        await sleep(this.#clock, WAIT_POLL_MS);
        waitedMs += WAIT_POLL_MS;
      }
    }
    // After the open rows, because one of them may be half done:
    //   1. a relay invalidates, but has not noted it yet
    //   2. Redis restarts, and has lost the invalidation
    //   3. a replay now would miss the row: it is not noted as applied
    //   4. the relay notes it, and the row is neither open nor replayed
    // A cache that was reset over the first connection of this process needs no replay.
    if (replay && !(isFirst && this.#registration.hasReset)) await this.#replay();
  }

  /** Counts, and looks up the backlog: rows that are open for this cache, at most 10,000. */
  async stats(): Promise<ChangesStats> {
    const { count, lagMs, bytes } = await this.#outbox.backlog();
    const { heldMs } = this.#horizon;
    return {
      applied: this.#applied,
      replayed: this.#replayed,
      backlog: count,
      lagMs,
      heldMs,
      bytes,
    };
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    for (let failures = 0; !this.#closed;) {
      try {
        await this.#notifications.askWhenDue();
        if (this.#options.listen !== false) this.#notifications.listenWhenDue();
        const next = await this.#look();
        failures = 0;
        this.#doChores();
        if (next === "busy") await sleep(this.#clock, BUSY_POLL_MS);
        else if (this.#notifications.hasPromised) await this.#drain();
        else if (next !== "again") await this.#rest(next);
      } catch (error) {
        this.#onError(error);
        await this.#pause(Math.min(++failures * 50, RETRY_MS_MAX));
        // The server may be another one when it is back.
        if (!this.#closed) {
          await this.#registration.renew().catch(this.#onError);
        }
      }
    }
  }

  /** Relays the open rows, if it is this relay's turn. */
  async #look(): Promise<Next> {
    const woken = this.#woken;
    this.#woken = false;
    // The usual relay, when woken, goes at once: there is a row.
    if (
      !woken && !this.#notifications.hasPromised || !this.#usual.isThis || this.#usual.overtaken
    ) {
      const glance = await this.#outbox.look(1);
      if (glance === undefined) return await this.#registerAgain();
      this.#horizon.note(glance.now, glance.nowMs);
      const { openMs, mustReport, relay } = glance;
      this.#usual.note(relay);
      if (!mustReport && openMs === null) {
        this.#usual.noteLook({ overtaken: false });
        return "idle";
      }
      if (!mustReport && openMs !== null && this.#usual.isLeft(openMs)) return "soon";
    }
    const relayed = await this.#relayAll({ catchesUp: false });
    if (relayed === "away") return "away";
    this.#usual.noteLook({ overtaken: relayed === "overtaken" });
    if (relayed === "unregistered") return await this.#registerAgain();
    if (relayed === "overtaken") return "soon";
    this.#quietLooks = relayed > 0 ? 0 : this.#quietLooks + 1;
    return this.#notifications.hasPromised && this.#quietLooks < QUIET_LOOKS_MAX ? "busy" : "idle";
  }

  async #registerAgain(): Promise<Next> {
    await this.#registration.register();
    return "again";
  }

  /**
   * Waits for the writers that relied on the promise, and may commit after it:
   *
   * ```text
   * 1. relay: promises to poll for the next 200 ms
   * 2. writer: UPDATE; sees the promise and does not notify
   * 3. relay: finds nothing, and rests until a notification
   * 4. writer: COMMIT
   * ```
   *
   * So it withdraws its promise, after which writers notify, looks until all transactions that had begun before
   * have ended, and then once more. The poll finds those that stay open for longer.
   */
  async #drain(): Promise<void> {
    const next = await this.#outbox.takeBackPromise();
    this.#notifications.hasPromised = false;
    try {
      for (let leftMs = DRAIN_MS_MAX; leftMs > 0 && !this.#closed; leftMs -= DRAIN_POLL_MS) {
        const { xmin } = parseSnapshot(await this.#outbox.snapshot());
        this.#woken = true;
        if (await this.#look() === "busy") return;
        if (xmin >= next) return;
        await this.#pause(DRAIN_POLL_MS);
      }
    } catch (error) {
      this.#notifications.hasPromised = true; // it begins again once Postgres answers
      throw error;
    }
  }

  /**
   * Waits for the next look. Rows that another relay may apply are looked at after a while, and not at each
   * notification: one look is enough for all rows committed meanwhile.
   */
  async #rest(next: "soon" | "away" | "idle"): Promise<void> {
    const { pollMs: wishedMs = POLL_MS } = this.#options;
    // In time to ask for notifications again.
    const pollMs = this.#notifications.isListening ? Math.min(wishedMs, ASK_MS) : wishedMs;
    if (next === "away") await this.#pause(AWAY_POLL_MS, { wakes: false });
    // Any role may notify, as often as it likes, though no row is there.
    if (this.#quietLooks > QUIET_LOOKS_MAX) await this.#pause(BUSY_POLL_MS, { wakes: false });
    if (next !== "soon") {
      const isFast = this.#notifications.writersAreSilent && next === "idle";
      await this.#pause(isFast ? Math.min(pollMs, SILENT_POLL_MS) : pollMs);
      if (!this.#woken || this.#usual.isThis) return;
    }
    await this.#pause(Math.min(this.#usual.waitMs, pollMs), { wakes: false });
  }

  /** Relays batches until one is not full. */
  async #relayAll(how: { readonly catchesUp: boolean }): Promise<Relayed> {
    let relayed: Relayed;
    do relayed = await this.#relay(how); while (relayed === BATCH_MAX && !this.#closed);
    return relayed;
  }

  /** Applies one batch of open rows and notes it. The loop and catching up take turns. */
  #relay(how: { readonly catchesUp: boolean }): Promise<Relayed> {
    const relayed = this.#relaying.then(() => this.#relayBatch(how));
    this.#relaying = relayed.catch(() => undefined);
    return relayed;
  }

  async #relayBatch({ catchesUp }: { readonly catchesUp: boolean }): Promise<Relayed> {
    const look = await this.#outbox.look(BATCH_MAX);
    if (look === undefined) return "unregistered";
    if (this.#wentBack(look.now)) {
      await this.#registration.renew(true);
      return "unregistered";
    }
    const { rows, isPart, mustReport, pass, now, relay, others } = look;
    this.#horizon.note(now, look.nowMs);
    this.#usual.note(relay); // before anything can fail: then another relay must take over
    // The next part begins after the last row of this one, so no row of this one can be left open.
    const { due, names, reserved } = catchesUp
      ? { due: rows, names: [], reserved: NONE }
      : this.#marks.split(rows, { reserves: !isPart });
    const applies = due.length + names.length;
    const follower = !catchesUp && applies > 0 ? this.#options.follower?.() : undefined;
    if (follower !== undefined) {
      follower.wake();
      return "away";
    }
    if (reserved.size > 0) this.#chores.soon("reserved", GRACE_MS / 10, () => this.wake());
    if (applies > 0) await this.#options.apply(merged(due), names);
    const isNoted = mustReport || pass !== null || rows.some(({ xid }) => !reserved.has(xid));
    if (!isNoted) return 0;
    // Catching up makes no promise: the loop may rest, and would not keep it.
    const isBusy = !catchesUp && this.#notifications.isBusy(look);
    const hadPromised = this.#notifications.hasPromised;
    // Set before the note, which may take effect although its answer is lost.
    if (isBusy) this.#notifications.hasPromised = true;
    const noted = await this.#outbox.note(look, {
      seen: isPart ? look.seen : without(pass ?? now, reserved),
      pass: isPart ? { snapshot: pass ?? now, after: last(rows) } : undefined,
      relay: rows.length > 0 ? this.#usual.id : undefined,
      promiseMs: isBusy ? PROMISE_MS : undefined,
      wakes: others && rows.length > 0 && hadPromised,
    });
    if (!noted) {
      this.#notifications.hasPromised = hadPromised;
      return "overtaken";
    }
    if (rows.length > 0) this.#usual.note(this.#usual.id);
    this.#applied += applies;
    return isPart ? BATCH_MAX : rows.length;
  }

  /** True if the database was restored to an earlier time: otherwise its transaction ids never decrease. */
  #wentBack(now: string): boolean {
    const { xmin, xmax } = parseSnapshot(now);
    const back = xmax < this.#last.xmax;
    this.#last = { xmin, xmax };
    return back;
  }

  /**
   * Applies the changes of the replay window again; open rows are left to relaying. Each name once, or the whole
   * cache if there are too many or a reset is among them, so that the time is limited: nothing is read from
   * Redis meanwhile.
   */
  async #replay(): Promise<void> {
    const changes = await this.#registration.wasResetLately()
      ? undefined
      : await this.#outbox.appliedLately();
    if (changes === undefined) return await this.#options.reset();
    if (changes.length === 0) return;
    await this.#options.apply(changes, []);
    this.#replayed += changes.reduce((sum, { keys }) => sum + (keys?.length ?? 1), 0);
  }

  /** Starts chores that are due; the usual relay does them for all. */
  #doChores(): void {
    this.#chores.whenDue("clean", CLEAN_MS, async () => {
      if (this.#usual.isThis) await this.#chores.repeat(() => this.#outbox.clean(), CLEAN_STEP_MS);
    });
    this.#chores.whenDue("check", CHECK_MS, async () => {
      const old = await outdated(this.#database);
      if (old !== undefined) this.#options.onProblem?.(old);
      if (!this.#usual.isThis) return;
      await this.#registration.renew();
      for (const problem of await checkWatched(this.#database)) this.#options.onProblem?.(problem);
      const { heldBy } = this.#horizon;
      const limits = { ...LIMITS, ...this.#options.limits };
      for (const problem of problemsOf({ ...await this.stats(), heldBy }, limits)) {
        this.#options.onProblem?.(problem);
      }
    });
  }

  /** Resolves after `delayMs`, on close or, with `wakes`, when woken. */
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
