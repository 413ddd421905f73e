/**
 * The steps of time and of faults: expiry, the feed and the memory lease (`cache/coherence.ts`,
 * `cache/redis/feed.ts`), a restart of Redis and the catch-up (`cache/catch_up.ts`), a crash.
 */
import type { Steps } from "./search.ts";
import {
  ALIVE,
  announce,
  BEGUN,
  CATCH_UP,
  CATCH_UP_FROM,
  CLOSED,
  COMMITTED,
  type Configuration,
  COUNTER,
  CRASHED,
  databaseVersion,
  DEBT,
  DELETED,
  DONE,
  doubt,
  drop,
  ECHO,
  FEED,
  finish,
  follows,
  FORGOTTEN,
  get,
  GONE,
  instanceAt,
  LEASE,
  LINK,
  MEMORY,
  MESSAGE,
  NO_ROW,
  OPEN,
  REPLAYED,
  REPLAYING,
  rowAt,
  SAVED,
  SAVED_LEASE,
  SAVED_VALUE,
  set,
  SILENT,
  unlink,
  UNWRITTEN,
  VALUE,
  versionOf,
  writerAt,
} from "./state.ts";

/** Redis: expiry, eviction, and the data after a restart. */
export function takeRedisSteps(state: Uint32Array, out: Steps, how: Configuration): void {
  if (get(state, LEASE) !== 0) {
    set(out.fork(), LEASE, 0);
    out.take("redis: the lease expires or is evicted");
  }
  if (how.without === "nonce" && get(state, COUNTER) !== 0) {
    set(out.fork(), COUNTER, 0);
    out.take("redis: the counter is evicted");
  }
  if (how.expiry && get(state, VALUE) !== 0) {
    const next = out.fork();
    set(next, VALUE, 0);
    announce(next, how);
    out.take("redis: the value expires or is evicted");
  }
  if (how.restart) takeRestartSteps(state, out, how);
}

function takeRestartSteps(state: Uint32Array, out: Steps, how: Configuration): void {
  if (get(state, SAVED) === 0) {
    const next = out.fork();
    set(next, SAVED, 1);
    set(next, SAVED_VALUE, get(state, VALUE));
    set(next, SAVED_LEASE, get(state, LEASE));
    out.take("redis: this is the last state that reaches the disk or the replica");
  }
  if (get(state, SAVED) !== 1) return;
  const next = out.fork();
  set(next, VALUE, get(state, SAVED_VALUE));
  set(next, LEASE, get(state, SAVED_LEASE));
  set(next, SAVED, 2);
  set(next, SAVED_VALUE, 0);
  set(next, SAVED_LEASE, 0);
  for (let instance = 0; instance < 2; instance++) {
    set(next, instanceAt(instance, LINK), 1);
    set(next, instanceAt(instance, MESSAGE), 0);
    set(next, instanceAt(instance, ECHO), 0);
    const alive = get(state, instanceAt(instance, FEED)) === ALIVE;
    if (alive && follows(instance, how)) set(next, instanceAt(instance, FEED), SILENT);
  }
  out.take("redis: restarts or fails over, all later changes are lost");
}

/** Takes the steps of one instance's feed, connection and life. */
export class InstanceSteps {
  readonly #how: Configuration;
  readonly #instance: number;
  readonly #who: string;

  constructor(how: Configuration, instance: number) {
    this.#how = how;
    this.#instance = instance;
    this.#who = `instance ${"AB"[instance]}:`;
  }

  take(state: Uint32Array, out: Steps): void {
    if (follows(this.#instance, this.#how)) {
      this.#deliver(state, out);
      this.#followFeed(state, out);
    }
    if (this.#how.crash && get(state, CRASHED) === 0) this.#crash(state, out);
    if (get(state, instanceAt(this.#instance, LINK)) === 1) this.#reconnect(out);
    else this.#catchUp(state, out);
  }

  #deliver(state: Uint32Array, out: Steps): void {
    const message = instanceAt(this.#instance, MESSAGE);
    if (get(state, message) === 0) return;
    const echo = instanceAt(this.#instance, ECHO);
    const next = out.fork();
    set(next, message, 0);
    if (get(state, echo) === 1) {
      set(next, echo, 0);
      out.take(`${this.#who} the feed's message arrives, and is taken for the echo of its fill`);
      return;
    }
    drop(next, this.#instance, this.#how);
    out.take(`${this.#who} the feed's message arrives, the key is dropped`);
    // Of several changes on the way, only the first may have arrived.
    drop(out.fork(), this.#instance, this.#how);
    out.take(`${this.#who} one of the feed's messages arrives, the key is dropped`);
  }

  #followFeed(state: Uint32Array, out: Steps): void {
    const at = instanceAt(this.#instance, FEED);
    const feed = get(state, at);
    if (feed === ALIVE && this.#how.feedLoss) {
      const next = out.fork();
      set(next, at, SILENT);
      set(next, instanceAt(this.#instance, MESSAGE), 0);
      set(next, instanceAt(this.#instance, ECHO), 0);
      out.take(`${this.#who} the feed and its messages are lost, unnoticed`);
    } else if (feed === SILENT && this.#how.without === "memory lease") {
      set(out.fork(), at, FORGOTTEN);
      out.take(`${this.#who} time passes`);
    } else if (feed === SILENT) {
      const next = out.fork();
      set(next, at, CLOSED);
      drop(next, this.#instance, this.#how);
      out.take(`${this.#who} the loss is noticed or the memory lease is over`);
    } else if (feed === CLOSED) {
      const next = out.fork();
      set(next, at, ALIVE);
      drop(next, this.#instance, this.#how);
      out.take(`${this.#who} the feed is back`);
    }
  }

  #reconnect(out: Steps): void {
    const next = out.fork();
    set(next, instanceAt(this.#instance, LINK), 0);
    this.#begin(next);
    doubt(next, this.#instance, this.#how);
    out.take(`${this.#who} reconnects, its catch-up begins`);
  }

  #begin(next: Uint32Array): void {
    set(next, instanceAt(this.#instance, CATCH_UP), BEGUN);
    set(next, instanceAt(this.#instance, CATCH_UP_FROM), databaseVersion(next));
  }

  #catchUp(state: Uint32Array, out: Steps): void {
    const phase = get(state, instanceAt(this.#instance, CATCH_UP));
    if (phase === 0) return;
    const early = this.#how.without === "replay after the drain";
    const replays = this.#how.without !== "replay";
    const drained = this.#drained(state);
    if (phase === BEGUN && early) {
      const done = get(state, rowAt(0)) === DONE || get(state, rowAt(1)) === DONE;
      this.#to(out, done ? REPLAYING : REPLAYED, "asks for the rows to replay");
    } else if (phase === BEGUN && drained) {
      this.#caughtUp(replays, out);
    } else if (phase === REPLAYING) {
      const next = out.fork();
      set(next, instanceAt(this.#instance, CATCH_UP), REPLAYED);
      unlink(next, this.#how);
      out.take(`${this.#who} the UNLINK of the replay is executed`);
    } else if (phase === REPLAYED && drained) {
      this.#to(out, 0, "no earlier row is open, Redis is trusted");
    }
  }

  /** Every earlier row is applied, or applied again in a replay, so nothing can be missing. */
  #caughtUp(replays: boolean, out: Steps): void {
    const next = out.fork();
    set(next, instanceAt(this.#instance, CATCH_UP), 0);
    set(next, instanceAt(this.#instance, CATCH_UP_FROM), 0);
    drop(next, this.#instance, this.#how);
    const rows = get(next, rowAt(0)) + get(next, rowAt(1)) > 0;
    if (replays && rows) unlink(next, this.#how);
    const text = replays && rows ? "the UNLINK of the replay is executed, " : "";
    out.take(`${this.#who} no earlier row is open, ${text}Redis is trusted`);
  }

  #to(out: Steps, phase: number, text: string): void {
    const next = out.fork();
    set(next, instanceAt(this.#instance, CATCH_UP), phase);
    if (phase === 0) set(next, instanceAt(this.#instance, CATCH_UP_FROM), 0);
    drop(next, this.#instance, this.#how);
    out.take(`${this.#who} ${text}`);
  }

  /** True if the rows of every commit before the catch-up are applied. */
  #drained(state: Uint32Array): boolean {
    const from = get(state, instanceAt(this.#instance, CATCH_UP_FROM));
    for (let writer = 0; writer < 2; writer++) {
      const row = get(state, rowAt(writer));
      if (row === NO_ROW || row === DONE) continue;
      if (versionOf(state, writer) <= from) return false;
    }
    return true;
  }

  #crash(state: Uint32Array, out: Steps): void {
    const next = out.fork();
    set(next, CRASHED, 1);
    for (let reader = 0; reader < 2; reader++) {
      if (this.#how.readers[reader] === this.#instance) finish(next, reader);
    }
    for (let writer = 0; writer < 2; writer++) {
      const at = get(state, writerAt(writer));
      const under = at === COMMITTED || at === DELETED;
      if (this.#how.writers[writer] === this.#instance && under) set(next, writerAt(writer), GONE);
      const row = get(state, rowAt(writer));
      const mine = row > OPEN && row < DONE && row % 2 === this.#instance;
      if (mine) set(next, rowAt(writer), OPEN);
    }
    for (const field of [MEMORY, MESSAGE, ECHO, LINK, DEBT]) {
      set(next, instanceAt(this.#instance, field), 0);
    }
    set(
      next,
      instanceAt(this.#instance, FEED),
      follows(this.#instance, this.#how) ? CLOSED : ALIVE,
    );
    this.#begin(next);
    out.take(`${this.#who} dies and restarts`);
  }
}

/** True if a writer has steps left. */
export function writing(state: Uint32Array, writer: number): boolean {
  const at = get(state, writerAt(writer));
  return at !== UNWRITTEN && at >= COMMITTED && at <= DELETED;
}
