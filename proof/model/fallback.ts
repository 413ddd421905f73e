/**
 * Memory that replaces a Redis which is lost and returns (`cache/fallback.ts`, `changes/follower.ts`): one
 * instance with a reader and a writer, and two writers past it. Redis dies, and comes back empty, at any time
 * and any number of times.
 *
 * The guarantee: trusted memory contains every change reported before, announced by the feed or found by a look
 * at the outbox, and every write that this instance has acknowledged. A version is the set of writers whose
 * change it contains, one bit each.
 */
import type { Model, Steps } from "./search.ts";

const COMMITTED = 0;
const APPLIED = 1; // to Redis, by the relay
const NOTED = 2; // as applied, in Postgres
const BASE = 3; // noted at the last question that the feed has answered
const PHASE = 4;
const MESSAGE = 5; // 1: on its way to the instance
const IN_REDIS = 6; // 1: Redis has the key, or the lease on it, so that it announces a change
const MEMORY = 7; // 0 or version + 1
const LEASE = 8; // 1: of the running load
const LOAD = 9; // 0, 1: begun, or version + 2
const SEEN = 10; // by the last look of the follower
const LOOK = 11; // 0, or the version that the running look has seen + 1
const TRUSTED = 12; // 1: within the memory lease of a look
const ACKNOWLEDGED = 13; // 0, 1: committed, 2: to the caller
const WORDS = 14;

const FOLLOWED = 0; // by the feed of Redis
const LOST = 1;
const STANDING_IN = 2;

const PAST = [1, 2]; // the writers past the instance
const OWN = 4;

/** Mechanisms that the search can leave out. */
export type FallbackMechanism =
  | "nothing"
  | "the first look begins at the applied changes"
  | "changes noted since the last sign of life are looked for"
  | "a change ends the lease"
  | "a write of the instance ends the lease"
  | "memory is dropped when Redis returns";

export function fallback(without: FallbackMechanism): Model {
  return {
    words: WORDS,
    steps: (state, out) => {
      takeWriters(state, out, without);
      takeLoad(state, out);
      if (state[PHASE] === FOLLOWED) takeFeed(state, out);
      else takeOutage(state, out, without);
    },
    violation,
    describe: (state) =>
      `committed ${bits(at(state, COMMITTED))}, applied ${bits(at(state, APPLIED))}, ` +
      `${["followed", "lost", "standing in"][at(state, PHASE)]}, ` +
      `memory ${state[MEMORY] ? bits(at(state, MEMORY) - 1) : "-"}, seen ${bits(at(state, SEEN))}`,
  };
}

function takeWriters(state: Uint32Array, out: Steps, without: FallbackMechanism): void {
  for (const writer of PAST) {
    if (at(state, COMMITTED) & writer) continue;
    out.fork()[COMMITTED] = at(state, COMMITTED) | writer;
    out.take(`writer ${bits(writer)} past the instance: commits`);
  }
  const own = at(state, ACKNOWLEDGED);
  if (own === 0) {
    const next = out.fork();
    next[COMMITTED] = at(state, COMMITTED) | OWN;
    next[ACKNOWLEDGED] = 1;
    out.take("own writer: commits");
  } else if (own === 1) {
    const next = out.fork();
    next[MEMORY] = 0;
    if (without !== "a write of the instance ends the lease") next[LEASE] = 0;
    next[ACKNOWLEDGED] = 2;
    if (state[PHASE] === FOLLOWED) {
      next[APPLIED] = at(state, APPLIED) | OWN;
      next[IN_REDIS] = 0;
    }
    out.take("own writer: drops the key, is acknowledged");
  }
}

function takeLoad(state: Uint32Array, out: Steps): void {
  const load = at(state, LOAD);
  const next = out.fork();
  if (load === 0) {
    if (state[PHASE] === LOST || state[MEMORY] !== 0) return;
    next[LOAD] = next[LEASE] = 1;
    if (state[PHASE] === FOLLOWED) next[IN_REDIS] = 1;
    out.take("reader: takes the lease");
  } else if (load === 1) {
    next[LOAD] = at(state, COMMITTED) + 2;
    out.take("reader: its query is executed");
  } else {
    if (state[LEASE]) next[MEMORY] = load - 1;
    next[LOAD] = next[LEASE] = 0;
    out.take(`reader: ${state[LEASE] ? "installs the value" : "its fill is refused"}`);
  }
}

/** While Redis is up: a relay applies and notes, Redis announces, the feed gives signs of life. */
function takeFeed(state: Uint32Array, out: Steps): void {
  const open = at(state, COMMITTED) & ~at(state, APPLIED);
  if (open) {
    const next = out.fork();
    next[APPLIED] = at(state, COMMITTED);
    if (state[IN_REDIS]) next[MESSAGE] = 1;
    next[IN_REDIS] = next[LEASE] = 0;
    out.take("relay: applies the committed changes");
  }
  if (at(state, APPLIED) & ~at(state, NOTED)) {
    out.fork()[NOTED] = at(state, APPLIED);
    out.take("relay: notes the applied changes");
  }
  if (state[MESSAGE]) {
    const next = out.fork();
    next[MESSAGE] = next[MEMORY] = next[LEASE] = 0;
    out.take("feed: the change arrives");
  } else {
    out.fork()[BASE] = at(state, NOTED);
    out.take("feed: gives a sign of life");
  }
  const next = out.fork();
  next[PHASE] = LOST;
  next[MESSAGE] = next[IN_REDIS] = next[LEASE] = 0;
  out.take("Redis: dies");
}

/** While Redis is down: the follower looks, its answer arrives, the lease ends, Redis returns. */
function takeOutage(state: Uint32Array, out: Steps, without: FallbackMechanism): void {
  const next = out.fork();
  if (state[PHASE] === LOST) {
    next[PHASE] = STANDING_IN;
    next[SEEN] = without === "the first look begins at the applied changes"
      ? at(state, COMMITTED)
      : without === "changes noted since the last sign of life are looked for"
      ? at(state, NOTED)
      : at(state, BASE);
    next[TRUSTED] = next[LOOK] = 0;
    out.take("fallback: begins");
    return;
  }
  if (state[LOOK] === 0) {
    next[LOOK] = at(state, COMMITTED) + 1;
    out.take("follower: its look is executed");
  } else {
    const found = at(state, LOOK) - 1;
    if (found & ~at(state, SEEN)) {
      next[MEMORY] = 0;
      if (without !== "a change ends the lease") next[LEASE] = 0;
    }
    next[SEEN] = found;
    next[LOOK] = 0;
    next[TRUSTED] = 1;
    out.take("follower: the answer arrives");
  }
  if (state[TRUSTED]) {
    out.fork()[TRUSTED] = 0;
    out.take("memory lease: ends");
  }
  const back = out.fork();
  back[PHASE] = FOLLOWED;
  back[APPLIED] = back[NOTED] = at(state, COMMITTED);
  if (without !== "memory is dropped when Redis returns") back[MEMORY] = 0;
  back[LEASE] =
    back[TRUSTED] =
    back[LOOK] =
    back[SEEN] =
      0;
  out.take("Redis: returns empty, and the catch-up is done");
}

function violation(state: Uint32Array): string | undefined {
  if (state[MEMORY] === 0) return undefined;
  const followed = state[PHASE] === FOLLOWED;
  if (!followed && !(state[PHASE] === STANDING_IN && state[TRUSTED])) return undefined;
  const version = at(state, MEMORY) - 1;
  if (state[ACKNOWLEDGED] === 2 && !(version & OWN)) {
    return "memory lacks a write that this instance has acknowledged";
  }
  // Messages on their way arrive within the lease.
  const reported = followed ? (state[MESSAGE] ? 0 : at(state, APPLIED)) : at(state, SEEN);
  const missing = reported & ~version;
  return missing ? `memory is trusted, and lacks ${bits(missing)}, which was reported` : undefined;
}

function bits(set: number): string {
  return [1, 2, 4].filter((bit) => set & bit).join("+") || "0";
}

function at(state: Uint32Array, index: number): number {
  return state[index] ?? 0;
}
