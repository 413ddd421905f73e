/** The steps of a read: `cache/reader.ts`, `cache/lease.ts`, `cache/single_flight.ts`. */
import type { Steps } from "./search.ts";
import {
  acknowledged,
  acknowledgedBy,
  ACQUIRING,
  ALIVE,
  announce,
  CATCH_UP,
  CLOSED,
  type Configuration,
  COUNTER,
  databaseVersion,
  DEBT,
  DOUBT,
  ECHO,
  FEED,
  FILLING,
  finish,
  FLIGHT,
  FLOOR,
  FOUND,
  get,
  GETTING,
  GOT,
  HELD,
  IDLE,
  instanceAt,
  LEASE,
  LINK,
  MEMORY,
  MOVED,
  PC,
  QUERYING,
  readerAt,
  REFRESHING,
  set,
  SHARING_LOAD,
  SHARING_LOOKUP,
  TOKEN,
  VALUE,
  WON,
} from "./state.ts";

/** Takes every step that one reader can take. */
export class ReaderSteps {
  readonly #how: Configuration;
  readonly #reader: number;
  readonly #instance: number;
  readonly #who: string;
  readonly #labels: readonly string[];

  constructor(how: Configuration, reader: number) {
    this.#how = how;
    this.#reader = reader;
    this.#instance = how.readers[reader] ?? 0;
    this.#who = `reader ${reader + 1} on ${"AB"[this.#instance]}:`;
    this.#labels = LABELS.map((label) => `${this.#who} ${label}`);
  }

  take(state: Uint32Array, out: Steps): void {
    const at = get(state, readerAt(this.#reader, PC));
    const linked = get(state, instanceAt(this.#instance, LINK)) === 0;
    if (at === IDLE) this.#start(state, out);
    else if (at === GETTING && linked) this.#get(state, out);
    else if (at === FOUND) this.#receive(state, out);
    else if (at === ACQUIRING) this.#acquire(state, linked, out);
    else if (at === REFRESHING && linked) this.#acquireRefresh(state, out);
    else if (at === WON) this.#launch(out);
    else if (at === HELD) this.#join(state, out);
    else if (at === QUERYING) this.#query(state, out);
    else if (at === FILLING && linked) this.#fill(state, out);
    // A command fails, or its reply is lost: its reader loads without filling, and gets the version of the
    // database after it began. Its lease may remain.
    const loses = at === WON || at === QUERYING || at === FILLING || at === REFRESHING;
    if (loses && (this.#how.timeouts || !linked)) this.#giveUp(out);
    if (at === QUERYING) this.#failLoad(out);
  }

  /** May be later than the memory look-up before it, so the content of memory does not matter. */
  #start(state: Uint32Array, out: Steps): void {
    const { without, readers } = this.#how;
    const instance = this.#instance;
    if (get(state, instanceAt(instance, DEBT)) !== 0) return;
    const behind = get(state, instanceAt(instance, CATCH_UP)) !== 0;
    if (behind && without !== "catch-up before trust") return;
    const floor = Math.max(acknowledged(state), acknowledgedBy(state, instance, this.#how));
    this.#begin(out, GETTING, floor);
    if (without !== "group commit" || readers[1 - this.#reader] !== instance) return;
    const other = get(state, readerAt(1 - this.#reader, PC));
    if (other >= GETTING && other <= QUERYING && other !== REFRESHING) {
      this.#begin(out, SHARING_LOOKUP, floor);
    }
  }

  #begin(out: Steps, at: number, floor: number): void {
    const next = out.fork();
    set(next, readerAt(this.#reader, PC), at);
    set(next, readerAt(this.#reader, FLOOR), floor);
    out.take(this.#label(at));
  }

  #get(state: Uint32Array, out: Steps): void {
    const value = get(state, VALUE);
    if (value !== 0) return this.#set(out, FOUND, value);
    this.#set(out, ACQUIRING, 0);
  }

  /** The reply of GET or acquire brings a value. */
  #receive(state: Uint32Array, out: Steps): void {
    if (get(state, readerAt(this.#reader, DOUBT)) !== 0) {
      this.#end(out, "drops the reply, because trust was lost meanwhile, and loads");
      return;
    }
    this.#hit(state, out, IDLE);
    // Stale within its grace, or due for an early refresh: it is answered all the same.
    this.#hit(state, out, REFRESHING);
  }

  #hit(state: Uint32Array, out: Steps, then: number): void {
    const { memory, without } = this.#how;
    const got = get(state, readerAt(this.#reader, GOT));
    const next = out.fork();
    const feed = get(state, instanceAt(this.#instance, FEED));
    const unmoved = get(state, readerAt(this.#reader, MOVED)) === 0 || without === "install guard";
    const installs = memory && unmoved && feed !== CLOSED && without !== "install on a hit";
    if (installs) set(next, instanceAt(this.#instance, MEMORY), got);
    const wrong = this.#answer(state, next, got - 1);
    if (then === IDLE) {
      finish(next, this.#reader);
    } else {
      set(next, readerAt(this.#reader, PC), REFRESHING);
      set(next, readerAt(this.#reader, MOVED), 0);
      set(next, readerAt(this.#reader, FLOOR), 0);
    }
    const label = installs ? HIT_INSTALLED : HIT;
    out.take(this.#labels[label] + (then === IDLE ? "" : ", then refreshes"), wrong);
  }

  /** The lease script. */
  #acquire(state: Uint32Array, linked: boolean, out: Steps): void {
    const { without } = this.#how;
    if (get(state, readerAt(this.#reader, MOVED)) === 1) {
      // The guard of acquire is set when acquire is sent, which may be only now.
      set(out.fork(), readerAt(this.#reader, MOVED), 0);
      out.take(`${this.#who} acquire is sent`);
    }
    if (!linked) return;
    const value = get(state, VALUE);
    if (value !== 0) return this.#set(out, FOUND, value);
    const lease = get(state, LEASE);
    if (lease === 0 || without === "lease" || without === "nonce") return this.#win(state, out);
    if (this.#shared()) return this.#set(out, HELD, lease);
    this.#end(out, "acquire is executed: another holds the lease, it waits");
  }

  #acquireRefresh(state: Uint32Array, out: Steps): void {
    const value = get(state, VALUE);
    const seen = get(state, readerAt(this.#reader, GOT));
    if (value !== 0 && value !== seen) {
      return this.#end(out, "finds a newer value, does not refresh");
    }
    const free = this.#how.without === "lease" || this.#how.without === "nonce";
    if (get(state, LEASE) !== 0 && !free) return this.#end(out, "finds a lease, does not refresh");
    this.#win(state, out);
  }

  #win(state: Uint32Array, out: Steps): void {
    const { without } = this.#how;
    const next = out.fork();
    if (without === "nonce") set(next, readerAt(this.#reader, TOKEN), get(state, COUNTER));
    else if (without !== "lease") set(next, LEASE, this.#reader + 1);
    // Without other readers nobody could join the load, so its launch is no step.
    set(next, readerAt(this.#reader, PC), this.#shared() ? WON : QUERYING);
    for (const field of [GOT, MOVED, DOUBT, FLOOR]) set(next, readerAt(this.#reader, field), 0);
    out.take(this.#label(WON));
  }

  #launch(out: Steps): void {
    const next = out.fork();
    set(next, readerAt(this.#reader, PC), QUERYING);
    set(next, instanceAt(this.#instance, FLIGHT), this.#reader + 1);
    out.take(this.#label(QUERYING));
  }

  #shared(): boolean {
    return this.#how.readers[0] === this.#how.readers[1];
  }

  /** There is a lease: joins its load if it is this instance's, otherwise waits and looks up again. */
  #join(state: Uint32Array, out: Steps): void {
    const other = 1 - this.#reader;
    const flight = get(state, instanceAt(this.#instance, FLIGHT));
    const compared = flight === get(state, readerAt(this.#reader, GOT));
    const loose = this.#how.without === "nonce compared before joining";
    const trusted = get(state, readerAt(this.#reader, DOUBT)) === 0;
    // Looking up again is ending this read and beginning another, which has a stronger guarantee.
    if (flight !== other + 1 || !trusted || !(compared || loose)) return this.#end(out, "waits");
    if (get(state, readerAt(other, PC)) !== FILLING) return this.#set(out, SHARING_LOAD, 0);
    const next = out.fork();
    const wrong = this.#answer(state, next, get(state, readerAt(other, GOT)) - 1);
    finish(next, this.#reader);
    out.take(this.#label(SHARING_LOAD), wrong);
  }

  /** The load: its caller and those who joined get the answer. */
  #query(state: Uint32Array, out: Steps): void {
    const next = out.fork();
    const version = databaseVersion(state);
    const wrong = this.#answer(state, next, version);
    const joiner = 1 - this.#reader;
    const joined = get(state, readerAt(joiner, PC)) === SHARING_LOAD;
    const late = joined && version < get(state, readerAt(joiner, FLOOR));
    if (joined) finish(next, joiner);
    set(next, readerAt(this.#reader, PC), FILLING);
    set(next, readerAt(this.#reader, GOT), version + 1);
    out.take(this.#label(FILLING), wrong ?? (late ? staleAnswer(version) : undefined));
  }

  #failLoad(out: Steps): void {
    const next = out.fork();
    if (get(next, LEASE) === this.#reader + 1) set(next, LEASE, 0);
    if (get(next, readerAt(1 - this.#reader, PC)) === SHARING_LOAD) finish(next, 1 - this.#reader);
    this.#leaveSharer(next);
    finish(next, this.#reader);
    out.take(this.#labels[LOAD_FAILS] ?? "");
  }

  /** The fill script. */
  #fill(state: Uint32Array, out: Steps): void {
    const { memory, without } = this.#how;
    const next = out.fork();
    const mine = without === "nonce"
      ? get(state, COUNTER) === get(state, readerAt(this.#reader, TOKEN))
      : get(state, LEASE) === this.#reader + 1;
    if (!mine && without !== "lease") return this.#end(out, "its fill is refused");
    set(next, VALUE, get(state, readerAt(this.#reader, GOT)));
    set(next, LEASE, 0);
    announce(next, this.#how);
    const feed = get(state, instanceAt(this.#instance, FEED));
    if (memory && without === "install on a hit" && feed === ALIVE) {
      set(next, instanceAt(this.#instance, MEMORY), get(next, VALUE));
      set(next, instanceAt(this.#instance, ECHO), 1);
    }
    finish(next, this.#reader);
    out.take(this.#labels[FILLED] ?? "");
  }

  /** Answers a version, also to a read that shares this look-up. Reports a violation by the answer. */
  #answer(state: Uint32Array, next: Uint32Array, version: number): string | undefined {
    const sharer = 1 - this.#reader;
    const shared = get(state, readerAt(sharer, PC)) === SHARING_LOOKUP;
    const wrong = version < get(state, readerAt(this.#reader, FLOOR)) ||
      (shared && version < get(state, readerAt(sharer, FLOOR)));
    if (shared) finish(next, sharer);
    return wrong ? staleAnswer(version) : undefined;
  }

  #giveUp(out: Steps): void {
    const next = out.fork();
    if (get(next, readerAt(1 - this.#reader, PC)) === SHARING_LOAD) finish(next, 1 - this.#reader);
    this.#leaveSharer(next);
    finish(next, this.#reader);
    out.take(`${this.#who} its command fails or the reply is lost`);
  }

  #leaveSharer(next: Uint32Array): void {
    const sharer = 1 - this.#reader;
    if (get(next, readerAt(sharer, PC)) === SHARING_LOOKUP) finish(next, sharer);
  }

  #set(out: Steps, at: number, got: number): void {
    const next = out.fork();
    set(next, readerAt(this.#reader, PC), at);
    set(next, readerAt(this.#reader, GOT), got);
    out.take(this.#label(at));
  }

  #end(out: Steps, how: string): void {
    const next = out.fork();
    this.#leaveSharer(next);
    finish(next, this.#reader);
    out.take(`${this.#who} ${how}`);
  }

  #label(at: number): string {
    return this.#labels[at] ?? "";
  }
}

function staleAnswer(version: number): string {
  return `a read that began after an acknowledged write is answered version ${version}, older than it`;
}

const HIT = SHARING_LOOKUP + 1;
const HIT_INSTALLED = HIT + 1;
const LOAD_FAILS = HIT + 2;
const FILLED = HIT + 3;

/** The labels of a reader's steps, by the state that they lead to, and then the rest. */
const LABELS: readonly string[] = [
  "",
  "begins, GET is sent",
  "GET or acquire is executed: it finds a value",
  "GET is executed: it finds no value",
  "acquire is executed: another holds the lease",
  "acquire is executed: it holds the lease",
  "",
  "acquire's reply arrives, the query is sent",
  "the query is executed, its callers are answered",
  "joins the load",
  "begins, and joins the running look-up",
  "answers the value",
  "answers the value and installs it in memory",
  "the load fails",
  "fill is executed",
];
