/**
 * The memory-only mode as a model: one instance, three readers, two writers, no Redis. Memory is the store, and
 * the flight is the fence: an invalidation detaches it, and a load that is no longer the flight is neither
 * joined nor installed (`Reader.#readHere()`, `Fills.here()`, `cache/loads.ts`).
 */
import type { Model, Steps } from "./search.ts";

const MEMORY = 0; // 0 or version + 1
const FLIGHT = 1; // the load that may be joined: reader + 1
const FIRST = 2; // the writer of version 1, + 1
const WRITERS = 3; // 0 unwritten, 1 committed, 2 acknowledged
const READERS = 5; // of each: its progress, the version + 1 of its load, its floor
const READERS_COUNT = 3;
const WORDS = READERS + 3 * READERS_COUNT;

const IDLE = 0;
const BEGUN = 1;
const LOADING = 2;
const LOADED = 3;
const JOINED = 4; // + the reader whose load it is

/** Mechanisms that the search can leave out. */
export type MemoryOnlyMechanism = "detach" | "nothing";

/** The model of the memory-only mode. */
export function memoryOnly(without: MemoryOnlyMechanism): Model {
  return {
    words: WORDS,
    steps: (state, out) => {
      for (let reader = 0; reader < READERS_COUNT; reader++) takeReader(state, out, reader);
      for (let writer = 0; writer < 2; writer++) takeWriter(state, out, { writer, without });
      if (state[MEMORY] === 0) return;
      out.fork()[MEMORY] = 0;
      out.take("memory: the value expires or is evicted");
    },
    violation,
    describe: (state) =>
      `database v${version(state)}, memory ${state[MEMORY] ? `v${at(state, MEMORY) - 1}` : "-"}` +
      (state[FLIGHT] ? `, flight of reader ${state[FLIGHT]}` : ""),
  };
}

function takeReader(state: Uint32Array, out: Steps, reader: number): void {
  const base = READERS + 3 * reader;
  const who = `reader ${reader + 1}:`;
  const pc = at(state, base);
  if (pc === IDLE) {
    const next = out.fork();
    next[base] = BEGUN;
    next[base + 2] = floor(state);
    out.take(`${who} begins`);
  } else if (pc === BEGUN) {
    const next = out.fork();
    const flight = at(state, FLIGHT);
    next[base] = flight === 0 ? LOADING : JOINED + flight - 1;
    if (flight === 0) next[FLIGHT] = reader + 1;
    out.take(`${who} ${flight === 0 ? "launches its load" : `joins the load of reader ${flight}`}`);
  } else if (pc === LOADING) {
    const next = out.fork();
    next[base] = LOADED;
    next[base + 1] = version(state) + 1;
    out.take(`${who} the query is executed`);
  } else if (pc === LOADED) {
    land(state, out, reader);
  }
}

/** The load is done: it answers its caller and those who joined, and is installed if that is permitted. */
function land(state: Uint32Array, out: Steps, reader: number): void {
  const next = out.fork();
  const base = READERS + 3 * reader;
  const loaded = at(state, base + 1);
  let wrong: string | undefined;
  for (let caller = 0; caller < READERS_COUNT; caller++) {
    const its = READERS + 3 * caller;
    if (caller !== reader && state[its] !== JOINED + reader) continue;
    if (loaded - 1 < at(state, its + 2)) {
      wrong = `reader ${caller + 1} began after an acknowledged write and is answered version ` +
        `${loaded - 1}, older than it`;
    }
    next.fill(0, its, its + 3);
  }
  const mine = state[FLIGHT] === reader + 1;
  if (mine) {
    next[MEMORY] = loaded;
    next[FLIGHT] = 0;
  }
  out.take(`reader ${reader + 1}: answers${mine ? " and installs the value" : ""}`, wrong);
}

function takeWriter(
  state: Uint32Array,
  out: Steps,
  who: { readonly writer: number; readonly without: MemoryOnlyMechanism },
): void {
  const pc = at(state, WRITERS + who.writer);
  if (pc === 2) return;
  const next = out.fork();
  next[WRITERS + who.writer] = pc + 1;
  if (pc === 0) {
    if (state[FIRST] === 0) next[FIRST] = who.writer + 1;
    out.take(`writer ${who.writer + 1}: commits`);
    return;
  }
  next[MEMORY] = 0;
  if (who.without !== "detach") next[FLIGHT] = 0;
  out.take(`writer ${who.writer + 1}: drops the key, is acknowledged`);
}

function violation(state: Uint32Array): string | undefined {
  const held = at(state, MEMORY) - 1;
  if (held >= 0 && held < floor(state)) {
    return `memory would answer version ${held}, older than an acknowledged write`;
  }
  for (let reader = 0; reader < READERS_COUNT; reader++) {
    if (state[READERS + 3 * reader] !== IDLE) return undefined;
  }
  const writing = state[WRITERS] === 1 || state[WRITERS + 1] === 1;
  if (writing || held < 0 || held === version(state)) return undefined;
  return "nothing is running, and memory differs from the database";
}

function version(state: Uint32Array): number {
  return Number(at(state, WRITERS) > 0) + Number(at(state, WRITERS + 1) > 0);
}

function floor(state: Uint32Array): number {
  let newest = 0;
  for (let writer = 0; writer < 2; writer++) {
    if (at(state, WRITERS + writer) === 2) {
      newest = Math.max(newest, state[FIRST] === writer + 1 ? 1 : 2);
    }
  }
  return newest;
}

function at(state: Uint32Array, index: number): number {
  return state[index] ?? 0;
}
