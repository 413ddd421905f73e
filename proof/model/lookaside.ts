/** The protocol of the cache as a model: all its steps, and the guarantees in every state. */
import { InstanceSteps, takeRedisSteps, writing } from "./fault_steps.ts";
import { ReaderSteps } from "./reader_steps.ts";
import type { Model, Steps } from "./search.ts";
import {
  acknowledged,
  acknowledgedBy,
  ALIVE,
  CATCH_UP,
  CLOSED,
  type Configuration,
  databaseVersion,
  DEBT,
  DONE,
  FEED,
  FORGOTTEN,
  get,
  instanceAt,
  LEASE,
  LINK,
  MEMORY,
  MESSAGE,
  NO_ROW,
  PC,
  readerAt,
  rowAt,
  STATE_WORDS,
  UNWRITTEN,
  VALUE,
  writerAt,
} from "./state.ts";
import { RelaySteps, WriterSteps } from "./writer_steps.ts";

export function lookaside(how: Configuration): Model {
  const readers = how.readers.map((_, reader) => new ReaderSteps(how, reader));
  const writers = how.writers.map((_, writer) => new WriterSteps(how, writer));
  const relays = [0, 1].map((instance) => new RelaySteps(how, instance));
  const instances = [0, 1].map((instance) => new InstanceSteps(how, instance));
  const actors = [...readers, ...writers, ...relays, ...instances];
  return {
    words: STATE_WORDS,
    steps: (state: Uint32Array, out: Steps) => {
      for (const actor of actors) actor.take(state, out);
      takeRedisSteps(state, out, how);
    },
    violation: (state) => memoryViolation(state, how) ?? quietViolation(state, how),
    describe: (state) => describe(state, how),
  };
}

/**
 * Checks the possible answer of a memory hit. A hit is one step, so it is checked in every state: the same
 * instance never answers a version older than a write acknowledged through it; another one only while a message
 * is on its way to it, or while its feed is lost and its memory lease not over.
 */
function memoryViolation(state: Uint32Array, how: Configuration): string | undefined {
  if (!how.memory) return undefined;
  const global = acknowledged(state);
  for (let instance = 0; instance < 2; instance++) {
    const held = get(state, instanceAt(instance, MEMORY));
    const feed = get(state, instanceAt(instance, FEED));
    if (held === 0 || feed === CLOSED) continue;
    const version = held - 1;
    const name = "AB"[instance];
    if (version < acknowledgedBy(state, instance, how)) {
      return `memory of ${name} would answer version ${version}, older than a write acknowledged there`;
    }
    const excused = feed === ALIVE
      ? get(state, instanceAt(instance, MESSAGE)) === 1
      : feed !== FORGOTTEN;
    if (version < global && !excused) {
      return `memory of ${name} would answer version ${version}, older than an acknowledged write, ` +
        "with no message on its way and no memory lease that will end";
    }
  }
  return undefined;
}

/** Checks that, when it is quiet, every tier is empty or equals the database. */
function quietViolation(state: Uint32Array, how: Configuration): string | undefined {
  const version = databaseVersion(state) + 1;
  const redis = get(state, VALUE);
  const stale = (held: number) => held !== 0 && held !== version;
  const a = get(state, instanceAt(0, MEMORY));
  const b = get(state, instanceAt(1, MEMORY));
  if (!stale(redis) && !stale(a) && !stale(b)) return undefined;
  for (let i = 0; i < 2; i++) {
    if (get(state, readerAt(i, PC)) !== 0 || writing(state, i)) return undefined;
    const row = get(state, rowAt(i));
    if (row !== NO_ROW && row !== DONE) return undefined;
    const busy = get(state, instanceAt(i, DEBT)) !== 0 ||
      get(state, instanceAt(i, MESSAGE)) !== 0 ||
      get(state, instanceAt(i, LINK)) !== 0 || get(state, instanceAt(i, CATCH_UP)) !== 0;
    if (busy || (how.memory && get(state, instanceAt(i, FEED)) !== ALIVE)) return undefined;
  }
  return "nothing is running, and a tier differs from the database";
}

const CODES = ["-", "v0", "v1", "v2"];
const LEASES = ["-", "of reader 1", "of reader 2", "orphaned"];
const FEEDS = ["", " (feed lost)", " (feed closed)", " (feed lost long ago)"];
const ROWS = ["", "open", "applied by A", "applied by B", "done"];

function describe(state: Uint32Array, how: Configuration): string {
  const parts = [
    `database v${databaseVersion(state)}`,
    `redis ${CODES[get(state, VALUE)]}`,
    `lease ${LEASES[get(state, LEASE)]}`,
  ];
  for (let i = 0; i < 2 && how.memory; i++) {
    const message = get(state, instanceAt(i, MESSAGE)) === 1 ? " (message on its way)" : "";
    const feed = FEEDS[get(state, instanceAt(i, FEED))];
    parts.push(`memory ${"AB"[i]} ${CODES[get(state, instanceAt(i, MEMORY))]}${message}${feed}`);
  }
  for (let i = 0; i < how.writers.length && how.outbox; i++) {
    const row = ROWS[get(state, rowAt(i))];
    if (get(state, writerAt(i)) !== UNWRITTEN && row !== "") parts.push(`row ${i + 1} ${row}`);
  }
  return parts.join(", ");
}
