/**
 * A relay finds the rows of writers: three writers, and one or two relays of a cache (`ChangeFeed`,
 * `changes/schema.ts`). Committing, looking, applying and noting are separate steps, and a relay may die between
 * any two.
 *
 * The guarantee: no committed change is missed for good, and a resting relay that has not died is notified of
 * each change or has already applied it. The poll, which finds changes without a notification, is left out: this
 * shows that it finds none.
 *
 * With `time`, anything that ends by time may end at any moment: the 200 ms of a promise; the 30 seconds of a
 * request for notifications, if the relay is stopped or late to repeat it; the second for which it waits for
 * writers. Statements may fail, executed or not. Some changes are then left to the poll, and the model says
 * which: those of writers that read the bell while no relay had asked in time, or during a promise of a relay
 * that died; and those of transactions that stay open for longer than a relay waits.
 */
import type { Model, Steps } from "./search.ts";

const WRITERS = 3;
const BELL = 0; // whether writers notify, as below
const SEEN = 1; // writers that the last noted look has seen, a bit each
const APPLIED = 2; // writers whose change was invalidated after its commit
const WRITER = 3; // of each: its progress
const ORDER = WRITER + WRITERS; // of each: its transaction id, from 1
const RELAY = ORDER + WRITERS; // of each: the fields below
const SILENT = RELAY + 2 * 6; // writers that will not notify, a bit each
const LEFT = SILENT + 1; // writers that are left to the poll, a bit each
const WORDS = LEFT + 1;

const ASKED = 0; // a relay has asked to be notified
const PROMISE = 1; // a relay has promised to poll
const LAPSED = 2; // no relay has asked in time
const OVERDUE = 3; // no writer notifies, although all should

const UNWRITTEN = 0;
const WRITTEN = 1; // its row is written, with its transaction id
const LOOKED = 2; // has read the bell, and will not notify
const NOTIFIES = 3; // has read the bell, and will notify
const COMMITTED = 4;
const ROLLED_BACK = 5;
const INVALIDATED = 6; // committed, and invalidated by its own process
const DONE = 7; // invalidated, and reported

const PC = 0;
const WOKEN = 1;
const SNAPSHOT = 2; // the snapshot of its look
const HELD = 3; // rows left to the writer
const PROMISED = 4; // 1: promised, 2: withdrawing it, 3: in the last look, 4: the same, for time is over
const NEEDED = 5; // writers that must end before it may rest

const LOOKING = 0;
const APPLYING = 1;
const NOTING = 2;
const WITHDRAWING = 3;
const NUMBERING = 4;
const DRAINING = 5;
const RESTING = 6;
const DEAD = 7;

/** Mechanisms that the search can leave out. */
export type RelayingMechanism =
  | "nothing"
  | "the snapshot of the look is noted"
  | "transactions may commit in any order"
  | "rows are noted after they are applied"
  | "the promise is withdrawn"
  | "looks until the writers have ended"
  | "one more look after they have ended"
  | "a transaction id after the withdrawal"
  | "a row written before the bell is read"
  | "rows left to a writer stay open"
  | "a writer reports only after its commit"
  | "no promise while catching up"
  | "the poll"
  | "the request is repeated in time"
  | "the request comes before the look"
  | "a promise survives a failure"
  | "a promise expires";

/** The options of a search. */
export interface RelayingOptions {
  /** Relays of the cache: one that lives, or two that may die; two make promises only with `time`. */
  readonly relays: 1 | 2;
  /** Number of relays that make promises. Default: both, with `time`. */
  readonly promising?: 1 | 2;
  /** Number of writers. Default 3. */
  readonly writers?: number;
  /** True if promises and requests may expire, and statements fail. */
  readonly time?: boolean;
  /** True if the first writer marks its writes, and invalidates them itself unless it dies. */
  readonly marks: boolean;
  readonly without?: RelayingMechanism;
}

export function relaying(options: RelayingOptions): Model {
  const { relays, marks, writers = WRITERS, time = false, without = "nothing" } = options;
  const promising = options.promising ?? (time || relays === 1 ? relays : 0);
  // True if it matters which writers are silent.
  const tells = time && relays === 2;
  return {
    words: WORDS,
    steps: (state, out) => {
      for (let writer = 0; writer < writers; writer++) {
        takeWriter(state, out, { writer, marks: marks && writer === 0, tells, without });
      }
      for (let relay = 0; relay < relays; relay++) {
        takeRelay(state, out, {
          relay,
          promises: relay < promising,
          marks,
          time,
          without,
          dies: relays === 2,
        });
      }
      if (time) takeTime(state, out, { requestsLapse: relays === 1, without });
    },
    violation: (state) => violation(state, { relays, time, without }),
    describe: (state) =>
      `writers ${[...state.slice(WRITER, ORDER)].join()}, seen ${bits(at(state, SEEN))}, ` +
      `applied ${bits(at(state, APPLIED))}, relay ${at(state, RELAY + PC)}, bell ${
        at(state, BELL)
      }`,
  };
}

interface WriterHow {
  readonly writer: number;
  readonly marks: boolean;
  readonly tells: boolean;
  readonly without: RelayingMechanism;
}

function takeWriter(
  state: Uint32Array,
  out: Steps,
  { writer, marks, tells, without }: WriterHow,
): void {
  const where = at(state, WRITER + writer);
  const who = `writer ${writer + 1}`;
  const to = (next: number, label: string, change?: (state: Uint32Array) => void): void => {
    const forked = out.fork();
    forked[WRITER + writer] = next;
    change?.(forked);
    out.take(`${who} ${label}`);
  };
  const write = (forked: Uint32Array): void => {
    forked[ORDER + writer] = 1 + Math.max(...forked.slice(ORDER, ORDER + WRITERS));
  };
  const isWrittenLate = without === "a row written before the bell is read";
  if (where === UNWRITTEN && !isWrittenLate) to(WRITTEN, "writes its row", write);
  if (where === (isWrittenLate ? UNWRITTEN : WRITTEN)) {
    const bell = at(state, BELL);
    if (bell === ASKED) return to(NOTIFIES, "reads a request, and will notify");
    to(LOOKED, bell === LAPSED ? "reads no request" : "reads a promise", (forked) => {
      if (tells) forked[SILENT] = at(forked, SILENT) | 1 << writer;
      const isLeft = bell === LAPSED || bell === PROMISE && isOrphaned(state);
      if (isLeft) forked[LEFT] = at(forked, LEFT) | 1 << writer;
    });
  } else if (where === LOOKED || where === NOTIFIES) {
    if (isWrittenLate && at(state, ORDER + writer) === 0) return to(where, "writes its row", write);
    to(ROLLED_BACK, "rolls back");
    to(COMMITTED, "commits", (forked) => {
      if (where === NOTIFIES) forked[RELAY + WOKEN] = forked[RELAY + 6 + WOKEN] = 1;
    });
    if (marks && without === "a writer reports only after its commit") {
      to(where, "reports before its commit", reportEarly);
    }
  } else if (marks && where === COMMITTED) {
    to(INVALIDATED, "invalidates", (forked) => forked[APPLIED] = at(forked, APPLIED) | 1 << writer);
  } else if (marks && where === INVALIDATED) {
    to(DONE, "reports its write");
  }
}

/** The variant that reports too early. */
function reportEarly(state: Uint32Array): void {
  state[ORDER] = at(state, ORDER) | 8;
}

/** Steps that happen only because time passes. */
function takeTime(
  state: Uint32Array,
  out: Steps,
  { requestsLapse, without }: {
    readonly requestsLapse: boolean;
    readonly without: RelayingMechanism;
  },
): void {
  const to = (bell: number, label: string): void => {
    out.fork()[BELL] = bell;
    out.take(label);
  };
  if (at(state, BELL) === PROMISE) {
    to(without === "a promise expires" ? OVERDUE : ASKED, "200 ms after the promise");
  }
  if (at(state, BELL) === ASKED && requestsLapse) {
    // A relay that is not late repeats it before.
    to(without === "the request is repeated in time" ? OVERDUE : LAPSED, "30 s after the request");
  }
}

interface RelayHow {
  readonly relay: number;
  readonly promises: boolean;
  readonly marks: boolean;
  readonly time: boolean;
  readonly dies: boolean;
  readonly without: RelayingMechanism;
}

function takeRelay(state: Uint32Array, out: Steps, how: RelayHow): void {
  const base = RELAY + 6 * how.relay;
  const { without } = how;
  const pc = at(state, base);
  const to = (next: number, label: string, change?: (state: Uint32Array) => void): void => {
    const forked = out.fork();
    forked[base] = next;
    change?.(forked);
    out.take(`relay ${how.relay + 1} ${label}`);
  };
  if (how.dies && pc !== DEAD) to(DEAD, "dies", (next) => die(next, base));
  if (how.time && !how.dies && pc !== RESTING) fail(state, { base, without }, to);
  if (pc === LOOKING) {
    to(APPLYING, "looks", (next) => {
      next[base + WOKEN] = 0;
      next[base + SNAPSHOT] = committed(next);
    });
  } else if (pc === APPLYING) {
    const found = at(state, base + SNAPSHOT) & ~at(state, SEEN);
    const isOpen = how.marks && (found & 1) !== 0 && at(state, WRITER) !== DONE;
    const isDone = how.marks && (at(state, WRITER) === DONE || (at(state, ORDER) & 8) !== 0);
    const apply = (held: number) => (next: Uint32Array) => {
      if (without !== "rows are noted after they are applied") {
        next[APPLIED] = at(next, APPLIED) | found & ~held & (isDone ? ~1 : ~0);
      }
      next[base + HELD] = without === "rows left to a writer stay open" ? 0 : held;
      if (without === "rows are noted after they are applied") note(next, base, without);
    };
    to(NOTING, "applies", apply(0));
    if (isOpen && !isDone) to(NOTING, "applies, and leaves a row to its writer", apply(1));
  } else if (pc === NOTING) {
    rest(state, { base, without, promises: how.promises }, to);
  } else if (pc === WITHDRAWING) {
    to(NUMBERING, "withdraws its promise", (next) => {
      if (without !== "the promise is withdrawn") next[BELL] = ASKED;
      if (without === "a transaction id after the withdrawal") {
        next[base + NEEDED] = at(state, base + NEEDED);
      } else next[base + NEEDED] = 0;
    });
  } else if (pc === NUMBERING) {
    to(DRAINING, "takes a transaction id", (next) => next[base + NEEDED] = open(next, without));
  } else if (pc === DRAINING) {
    const isLast = (at(state, base + NEEDED) & open(state, "nothing")) === 0 ||
      without === "looks until the writers have ended";
    const skips = isLast && without === "one more look after they have ended";
    to(skips ? RESTING : LOOKING, "checks which writers have ended", (next) => {
      next[base + PROMISED] = skips ? 0 : isLast ? 3 : 2;
    });
    if (how.time) {
      to(LOOKING, "stops waiting", (next) => {
        next[LEFT] = at(next, LEFT) | at(state, base + NEEDED) & open(state, "nothing");
        next[base + PROMISED] = 4;
      });
    }
  } else if (pc === RESTING) {
    if (at(state, base + WOKEN) === 1) to(LOOKING, "is notified");
    if (at(state, base + HELD) !== 0) to(LOOKING, "looks again at the row that it left");
    if (without === "no promise while catching up") to(RESTING, "catches up", catchUp(base));
    if (!how.time || without === "the poll") return;
    to(LOOKING, "polls");
    // Before its look, which thus finds everything committed until then.
    const asks = !how.dies && without !== "the request comes before the look";
    if (asks && without !== "the request is repeated in time") {
      to(LOOKING, "asks for notifications, and polls", ask);
    }
  }
}

/** The variant in which another task of a resting relay applies, and promises to look. */
function catchUp(base: number): (state: Uint32Array) => void {
  return (state) => {
    state[SEEN] = state[APPLIED] = committed(state);
    state[base + PROMISED] = 1;
    state[BELL] = PROMISE;
  };
}

/** Asks for notifications: from now on, only writers that are still open are left to the poll. */
function ask(state: Uint32Array): void {
  state[BELL] = ASKED;
  state[LEFT] = at(state, LEFT) & ~committed(state);
}

/** Ends a relay. Writers that relied on its promise are left to the poll of the other. */
function die(state: Uint32Array, base: number): void {
  const hadPromised = at(state, base + PROMISED) !== 0;
  state.fill(0, base, base + 6);
  state[base + PC] = DEAD;
  if (hadPromised && isOrphaned(state)) state[LEFT] = at(state, LEFT) | at(state, SILENT);
}

/** True if a relay has died, and no other must still wait for the writers that relied on a promise. */
function isOrphaned(state: Uint32Array): boolean {
  const bases = [RELAY, RELAY + 6];
  const keeps = (base: number): boolean =>
    at(state, base + PROMISED) === 1 && at(state, base + PC) !== DRAINING;
  return bases.some((base) => at(state, base + PC) === DEAD) && !bases.some(keeps);
}

/** Fails at a statement, and begins again. It remembers a promise that it may have made. */
function fail(
  state: Uint32Array,
  { base, without }: { readonly base: number; readonly without: RelayingMechanism },
  to: To,
): void {
  const forgets = without === "a promise survives a failure";
  const after = (promised: number) => (next: Uint32Array): void => {
    next[base + PROMISED] = forgets ? 0 : promised;
    next[base + SNAPSHOT] = next[base + NEEDED] = 0;
  };
  const promised = at(state, base + PROMISED);
  to(LOOKING, "fails", after(promised === 4 ? 4 : Math.min(promised, 1)));
  if (at(state, base) !== NOTING) return;
  to(LOOKING, "notes the look, promises to poll, and gets no answer", (next) => {
    note(next, base, without);
    next[BELL] = PROMISE;
    after(1)(next);
  });
}

type To = (next: number, label: string, change?: (state: Uint32Array) => void) => void;

/** Notes a look, and then continues or rests. */
function rest(
  state: Uint32Array,
  { base, without, promises }: {
    readonly base: number;
    readonly without: RelayingMechanism;
    readonly promises: boolean;
  },
  to: To,
): void {
  const noted = (promised: number) => (next: Uint32Array) => {
    note(next, base, without);
    if (without === "rows are noted after they are applied") {
      next[APPLIED] = at(next, APPLIED) | at(next, base + SNAPSHOT);
    }
    next[base + PROMISED] = promised;
    next[base + SNAPSHOT] = 0;
    if (promised !== 2) next[base + NEEDED] = 0;
  };
  const promised = at(state, base + PROMISED);
  if (promises) {
    to(LOOKING, "notes the look, and promises to poll", (next) => {
      noted(1)(next);
      next[BELL] = PROMISE;
    });
  }
  if (promised === 2) to(DRAINING, "notes the look", noted(2));
  else if (promised === 1) to(WITHDRAWING, "notes the look", noted(1));
  else {
    to(RESTING, "notes the look, and rests", (next) => {
      noted(0)(next);
      if (without === "the request comes before the look") ask(next);
    });
  }
}

function note(state: Uint32Array, base: number, without: RelayingMechanism): void {
  const seen = without === "the snapshot of the look is noted"
    ? committed(state)
    : at(state, base + SNAPSHOT);
  state[SEEN] = seen & ~at(state, base + HELD);
  if (without !== "transactions may commit in any order") return;
  let highest = 0;
  for (let writer = 0; writer < WRITERS; writer++) {
    if (seen & 1 << writer) highest = Math.max(highest, at(state, ORDER + writer));
  }
  for (let writer = 0; writer < WRITERS; writer++) {
    const order = at(state, ORDER + writer);
    if (order > 0 && order <= highest) state[SEEN] = at(state, SEEN) | 1 << writer;
  }
}

/** Writers whose transactions must have ended before a relay rests. */
function open(state: Uint32Array, without: RelayingMechanism): number {
  const hasEnded = (writer: number): boolean => at(state, WRITER + writer) >= COMMITTED;
  let newestEnded = 0;
  let found = 0;
  for (let writer = 0; writer < WRITERS; writer++) {
    if (hasEnded(writer)) newestEnded = Math.max(newestEnded, at(state, ORDER + writer) & 7);
  }
  for (let writer = 0; writer < WRITERS; writer++) {
    const order = at(state, ORDER + writer) & 7;
    if (order === 0 || hasEnded(writer)) continue;
    // A snapshot ends after the newest transaction that has ended, not after the newest that has begun.
    if (without === "a transaction id after the withdrawal" && order > newestEnded) continue;
    found |= 1 << writer;
  }
  return found;
}

function committed(state: Uint32Array): number {
  let found = 0;
  for (let writer = 0; writer < WRITERS; writer++) {
    const where = at(state, WRITER + writer);
    if (where >= COMMITTED && where !== ROLLED_BACK) found |= 1 << writer;
  }
  return found;
}

function violation(
  state: Uint32Array,
  { relays, time, without }: {
    readonly relays: number;
    readonly time: boolean;
    readonly without: RelayingMechanism;
  },
): string | undefined {
  const missed = committed(state) & ~at(state, APPLIED);
  if (missed & at(state, SEEN)) {
    const dying = [0, 1].some((relay) => relay < relays && at(state, RELAY + 6 * relay) === NOTING);
    if (!dying || relays === 2) {
      return `a change is missed: ${bits(missed & at(state, SEEN))}`;
    }
  }
  if (relays === 2 && !time) return undefined;
  const living = [RELAY, RELAY + 6].slice(0, relays).filter((base) => at(state, base) !== DEAD);
  const rests = (base: number): boolean =>
    at(state, base + PC) === RESTING && at(state, base + WOKEN) === 0 &&
    at(state, base + HELD) === 0;
  const unnotified = without === "the poll" ? missed : missed & ~at(state, LEFT);
  return unnotified === 0 || living.length === 0 || !living.every(rests)
    ? undefined
    : `the relay rests, and was not notified of ${bits(unnotified)}`;
}

function bits(set: number): string {
  return [1, 2, 3].filter((writer) => set & 1 << writer - 1).join() || "-";
}

function at(state: Uint32Array, index: number): number {
  return state[index] ?? 0;
}
