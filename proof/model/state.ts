/**
 * A state of the protocol: its fields, the meaning of their numbers, and the few changes that several steps share.
 *
 * Versions count the commits, 0 to 2. Where a tier may be empty, 0 is "empty" and v + 1 is version v.
 */

/** A mechanism of the engine that a search can leave out, to show that it is needed. */
export type Mechanism =
  | "lease"
  | "nonce"
  | "lease removed by an invalidation"
  | "nonce compared before joining"
  | "group commit"
  | "install guard"
  | "install on a hit"
  | "drop after a delete"
  | "memory lease"
  | "outbox"
  | "replay"
  | "replay after the drain"
  | "catch-up before trust"
  | "trust checked when the reply comes";

/** The options of a search. */
export interface Configuration {
  /** Its purpose. */
  readonly name: string;
  /** The instance, 0 or 1, of each of the two readers. */
  readonly readers: readonly [number, number];
  /** The instance of each writer: one or two. */
  readonly writers: readonly number[];
  /** True if the instances have a memory tier; then feeds may be lost, if `feedLoss`. */
  readonly memory: boolean;
  readonly feedLoss: boolean;
  /** True if replies and commands may be lost without a restart. */
  readonly timeouts: boolean;
  /** True if values may expire or be evicted. Leases always may. */
  readonly expiry: boolean;
  /** True if changes are recorded in the outbox and relayed. */
  readonly outbox: boolean;
  /** True if a writer may never reach its delete: its process died, or it is psql. */
  readonly writerDies: boolean;
  /** True if one instance may die once, at any moment, and restart. */
  readonly crash: boolean;
  /** True if Redis may restart once, from any earlier state. */
  readonly restart: boolean;
  /** The mechanism that is left out. */
  readonly without?: Mechanism;
}

export const VALUE = 0; // in Redis: 0 or version + 1
export const LEASE = 1; // in Redis: 0, reader + 1, or ORPHAN
export const COUNTER = 2; // in Redis: for the variant that counts instead of a nonce
export const SAVED = 3; // 0 nothing saved, 1 saved for a restart, 2 restarted
export const SAVED_VALUE = 4;
export const SAVED_LEASE = 5;
export const FIRST = 6; // the writer of version 1, + 1
export const CRASHED = 7;

/** A lease whose nonce is no longer used. */
const ORPHAN = 3;

const WRITERS = 8;
const INSTANCES = 12;
const READERS = 30;

/** The index of a writer's progress. */
export function writerAt(writer: number): number {
  return WRITERS + 2 * writer;
}
export const UNWRITTEN = 0;
export const COMMITTED = 1; // UNLINK will be sent, or is
export const DELETED = 2; // UNLINK is executed, the reply is on its way
export const ACKNOWLEDGED = 3;
export const PENDING = 4; // acknowledged, with the invalidation pending
export const GONE = 5; // committed, and will never delete

/** The index of the outbox row for a writer's change. */
export function rowAt(writer: number): number {
  return WRITERS + 2 * writer + 1;
}
export const NO_ROW = 0;
export const OPEN = 1; // or claimed, and not applied yet
export const APPLIED = 2; // + instance: its UNLINK is executed, the row is not marked yet
export const DONE = 4;

/** The index of a field of an instance. */
export function instanceAt(instance: number, field: number): number {
  return INSTANCES + 9 * instance + field;
}
export const MEMORY = 0;
export const MESSAGE = 1; // "the key changed" is on its way, once or several times
export const ECHO = 2; // for the variant that installs on a fill: the next message is its own
export const FEED = 3;
export const LINK = 4; // 1: the connection for commands is down
export const CATCH_UP = 5;
export const CATCH_UP_FROM = 6; // commits before the catch-up began
export const DEBT = 7; // 1: an invalidation is pending
export const FLIGHT = 8; // the load that may be joined: reader + 1

export const ALIVE = 0;
export const SILENT = 1; // lost, and within the memory lease
export const CLOSED = 2; // known to be lost, or the lease is over: memory is bypassed
export const FORGOTTEN = 3; // for the variant without a memory lease: lost, and still trusted

export const BEGUN = 1;
export const REPLAYING = 2; // for the variant that replays first: there is something to replay
export const REPLAYED = 3; // for the variant that replays first: it waits for open rows

/** The index of a field of a reader. */
export function readerAt(reader: number, field: number): number {
  return READERS + 6 * reader + field;
}
export const PC = 0;
export const GOT = 1; // the last reply: a version + 1, or a lease
export const FLOOR = 2; // the newest version that was acknowledged before the read began
export const MOVED = 3; // the key's epoch changed since the command was sent
export const DOUBT = 4; // Redis was not always trusted since the look-up was sent
export const TOKEN = 5; // for the variant that counts

export const IDLE = 0;
export const GETTING = 1; // GET is sent
export const FOUND = 2; // GET or acquire has found a value, the reply is on its way
export const ACQUIRING = 3; // GET has found nothing, acquire will be or is sent
export const HELD = 4; // acquire has found another's lease
export const WON = 5; // acquire has taken the lease
export const REFRESHING = 6; // acquire is sent, although there is a value: its refresh is due
export const QUERYING = 7; // the load's query is sent
export const FILLING = 8; // the query is executed, its callers are answered, fill is sent
export const SHARING_LOAD = 9;
export const SHARING_LOOKUP = 10; // for the variant that joins sent look-ups

const WIDTHS: readonly (readonly number[])[] = [
  [2, 2, 2, 2, 2, 2, 2, 1, 3, 3, 3, 3], // Redis, and two writers
  [2, 1, 1, 2, 1, 2, 2, 1, 2, 2, 1, 1, 2, 1, 2, 2, 1, 2], // two instances
  [4, 2, 2, 1, 1, 2, 4, 2, 2, 1, 1, 2], // two readers
];

/** Number of words in a state. */
export const STATE_WORDS: number = WIDTHS.length;

/** For each field: its word, its lowest bit, and a mask. */
const PLACES: Int32Array = Int32Array.from(WIDTHS.flatMap((widths, word) => {
  let shift = 0;
  return widths.map((width) => {
    const place = (word << 16) | (shift << 8) | ((1 << width) - 1);
    shift += width;
    return place;
  });
}));

/** Reads a field of a state. */
export function get(state: Uint32Array, at: number): number {
  const place = PLACES[at] ?? 0;
  return ((state[place >>> 16] ?? 0) >>> ((place >>> 8) & 31)) & place & 255;
}

/** Changes a field of a state; the value must fit. */
export function set(state: Uint32Array, at: number, value: number): void {
  const place = PLACES[at] ?? 0;
  const mask = place & 255;
  if (value > mask) throw new RangeError(`Cannot set field ${at} to ${value}: too narrow`);
  const word = place >>> 16;
  const shift = (place >>> 8) & 31;
  state[word] = ((state[word] ?? 0) & ~(mask << shift)) | (value << shift);
}

/** Number of committed writes: the version of the database. */
export function databaseVersion(state: Uint32Array): number {
  return Number(get(state, writerAt(0)) !== UNWRITTEN) +
    Number(get(state, writerAt(1)) !== UNWRITTEN);
}

/** The version that a writer committed, 0 if none. */
export function versionOf(state: Uint32Array, writer: number): number {
  if (get(state, writerAt(writer)) === UNWRITTEN) return 0;
  return get(state, FIRST) === writer + 1 ? 1 : 2;
}

/** The newest version acknowledged through `instance`. */
export function acknowledgedBy(state: Uint32Array, instance: number, how: Configuration): number {
  let newest = 0;
  for (let writer = 0; writer < how.writers.length; writer++) {
    const at = get(state, writerAt(writer));
    const acknowledged = at === ACKNOWLEDGED || at === PENDING;
    if (!acknowledged || how.writers[writer] !== instance) continue;
    newest = Math.max(newest, versionOf(state, writer));
  }
  return newest;
}

/** The newest version acknowledged with its invalidation applied. */
export function acknowledged(state: Uint32Array): number {
  let newest = 0;
  for (let writer = 0; writer < 2; writer++) {
    if (get(state, writerAt(writer)) === ACKNOWLEDGED) {
      newest = Math.max(newest, versionOf(state, writer));
    }
  }
  return newest;
}

/** Redis announces a change of the key to the open feeds. */
export function announce(state: Uint32Array, how: Configuration): void {
  if (!how.memory) return;
  for (let instance = 0; instance < 2; instance++) {
    if (!follows(instance, how) || get(state, instanceAt(instance, FEED)) !== ALIVE) continue;
    set(state, instanceAt(instance, MESSAGE), 1);
  }
}

/** True if an instance has a memory tier that a reader uses. */
export function follows(instance: number, how: Configuration): boolean {
  return how.memory && (how.readers[0] === instance || how.readers[1] === instance);
}

/** Executes `UNLINK value lease`. A missing value is not announced. */
export function unlink(state: Uint32Array, how: Configuration): void {
  if (get(state, VALUE) !== 0) announce(state, how);
  set(state, VALUE, 0);
  if (how.without === "nonce") set(state, COUNTER, Math.min(get(state, COUNTER) + 1, 3));
  else if (how.without !== "lease removed by an invalidation") set(state, LEASE, 0);
}

/** `Cache.#void()`: drops the key, marks running reads, and detaches the load. */
export function drop(state: Uint32Array, instance: number, how: Configuration): void {
  set(state, instanceAt(instance, MEMORY), 0);
  set(state, instanceAt(instance, FLIGHT), 0);
  if (!how.memory) return;
  for (let reader = 0; reader < 2; reader++) {
    if (how.readers[reader] !== instance) continue;
    const at = get(state, readerAt(reader, PC));
    if (at >= GETTING && at <= ACQUIRING) set(state, readerAt(reader, MOVED), 1);
  }
}

/** From now on, answers to running look-ups may come from a Redis that is not trusted. */
export function doubt(state: Uint32Array, instance: number, how: Configuration): void {
  if (how.without === "trust checked when the reply comes") return;
  for (let reader = 0; reader < 2; reader++) {
    if (how.readers[reader] !== instance) continue;
    const at = get(state, readerAt(reader, PC));
    if (at >= GETTING && at <= HELD) set(state, readerAt(reader, DOUBT), 1);
  }
}

/** Ends a read. Its nonce is never used again, so a lease that carries it is an orphan. */
export function finish(state: Uint32Array, reader: number): void {
  const lease = reader + 1;
  if (get(state, LEASE) === lease) set(state, LEASE, ORPHAN);
  if (get(state, SAVED_LEASE) === lease) set(state, SAVED_LEASE, ORPHAN);
  const other = 1 - reader;
  if (get(state, readerAt(other, PC)) === HELD && get(state, readerAt(other, GOT)) === lease) {
    set(state, readerAt(other, GOT), ORPHAN);
  }
  for (let instance = 0; instance < 2; instance++) {
    const flight = instanceAt(instance, FLIGHT);
    if (get(state, flight) === lease) set(state, flight, 0);
  }
  for (let field = PC; field <= TOKEN; field++) set(state, readerAt(reader, field), 0);
}
