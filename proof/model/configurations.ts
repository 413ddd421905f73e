/** The configurations that are searched, and the mechanisms that are left out of each. */
import type { Configuration, Mechanism } from "./state.ts";

/** A configuration, and the mechanisms without which it must fail. */
export interface Case {
  readonly how: Configuration;
  readonly needs: readonly Mechanism[];
}

const nothing = {
  memory: false,
  feedLoss: false,
  timeouts: false,
  expiry: false,
  outbox: false,
  writerDies: false,
  crash: false,
  restart: false,
} as const;
const apart = [0, 1] as const;
const together = [0, 0] as const;

/** Searched whenever the tests run. */
export const CASES: readonly Case[] = [
  {
    how: {
      ...nothing,
      name: "Redis alone, readers and writers on both instances, lost replies, expiry",
      readers: apart,
      writers: [0, 1],
      timeouts: true,
      expiry: true,
    },
    needs: ["lease", "nonce", "lease removed by an invalidation"],
  },
  {
    how: {
      ...nothing,
      name: "Redis alone, both readers on one instance, lost replies, expiry",
      readers: together,
      writers: [0, 1],
      timeouts: true,
      expiry: true,
    },
    needs: ["group commit", "nonce compared before joining"],
  },
  {
    how: {
      ...nothing,
      name: "memory on both instances, feeds lost at any time, expiry",
      readers: apart,
      writers: [0, 1],
      memory: true,
      feedLoss: true,
      expiry: true,
    },
    needs: ["install guard", "install on a hit", "drop after a delete", "memory lease"],
  },
  {
    how: {
      ...nothing,
      name: "memory, both readers on one instance, feeds and replies lost",
      readers: together,
      writers: [0, 1],
      memory: true,
      feedLoss: true,
      timeouts: true,
    },
    needs: ["install guard", "memory lease", "trust checked when the reply comes"],
  },
  {
    how: {
      ...nothing,
      name: "memory on both instances, one writer, feeds and replies lost, expiry",
      readers: apart,
      writers: [0],
      memory: true,
      feedLoss: true,
      timeouts: true,
      expiry: true,
    },
    needs: ["install on a hit", "drop after a delete", "memory lease"],
  },
  {
    how: {
      ...nothing,
      name: "outbox, two writers that may die before their delete, an instance dies",
      readers: apart,
      writers: [0, 1],
      outbox: true,
      writerDies: true,
      crash: true,
    },
    needs: ["outbox", "lease"],
  },
  {
    how: {
      ...nothing,
      name: "outbox and memory, a writer that may die, an instance dies, lost replies, expiry",
      readers: apart,
      writers: [0],
      memory: true,
      timeouts: true,
      expiry: true,
      outbox: true,
      writerDies: true,
      crash: true,
    },
    needs: ["outbox", "install guard"],
  },
  {
    how: {
      ...nothing,
      name: "Redis restarts and loses its last writes, readers on both instances",
      readers: apart,
      writers: [0],
      outbox: true,
      writerDies: true,
      restart: true,
    },
    needs: ["replay", "replay after the drain", "trust checked when the reply comes"],
  },
  {
    how: {
      ...nothing,
      name: "Redis restarts and loses its last writes, both readers on one instance",
      readers: together,
      writers: [1],
      outbox: true,
      writerDies: true,
      restart: true,
    },
    needs: ["catch-up before trust", "replay"],
  },
  {
    how: {
      ...nothing,
      name: "Redis restarts, an instance dies, lost replies",
      readers: apart,
      writers: [0],
      timeouts: true,
      outbox: true,
      writerDies: true,
      crash: true,
      restart: true,
    },
    needs: ["outbox", "replay"],
  },
];

/** Searched by `deno run proof/model/larger.ts`: minutes, not seconds. */
export const LARGER: readonly Configuration[] = [
  {
    ...nothing,
    name: "memory on both instances, two writers, feeds and replies lost, expiry",
    readers: apart,
    writers: [0, 1],
    memory: true,
    feedLoss: true,
    timeouts: true,
    expiry: true,
  },
  {
    ...nothing,
    name: "outbox and memory, an instance dies, feeds and replies lost, expiry",
    readers: apart,
    writers: [0],
    memory: true,
    feedLoss: true,
    timeouts: true,
    expiry: true,
    outbox: true,
    writerDies: true,
    crash: true,
  },
  {
    ...nothing,
    name: "Redis restarts, memory on both instances",
    readers: apart,
    writers: [0],
    memory: true,
    outbox: true,
    restart: true,
  },
  {
    ...nothing,
    name: "Redis restarts, memory, both readers on one instance, the writer on the other",
    readers: together,
    writers: [1],
    memory: true,
    outbox: true,
    writerDies: true,
    restart: true,
  },
  {
    ...nothing,
    name: "Redis restarts, two writers",
    readers: apart,
    writers: [0, 1],
    outbox: true,
    restart: true,
  },
];
