/**
 * Causes faults, one after the other, in an order that the seed determines.
 *
 * @module
 */
import { cp } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import type { Cluster, Instance } from "./cluster.ts";

/** A uniform random number in [0, 1). */
export type Random = () => number;

/** Mulberry32: 32 bits of state suffice to replay a run. */
export function randomOf(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

type Fault = (cluster: Cluster, random: Random) => Promise<void>;

const FAULTS: Readonly<Record<string, Fault>> = {
  "redis killed, restarts with its file": async ({ redis }, random) => {
    await redis.kill();
    await delay(200 + 600 * random());
    await redis.start();
  },
  "redis killed, restarts empty": async ({ redis, redisDirectory }) => {
    await redis.kill();
    await Deno.remove(redisDirectory, { recursive: true });
    await redis.start();
  },
  "redis restarts with a file a second old": async ({ redis, redisDirectory }) => {
    const copy = `${redisDirectory}.copy`;
    await cp(redisDirectory, copy, { recursive: true });
    await delay(1_000);
    await redis.kill();
    await Deno.remove(redisDirectory, { recursive: true });
    await Deno.rename(copy, redisDirectory);
    await redis.start();
  },
  "redis stopped": async ({ redis }, random) => {
    redis.pause();
    await delay(1_000 + 2_000 * random());
    redis.resume();
  },
  "way to redis cut": async (cluster, random) => {
    const { proxy } = oneOf(cluster, random);
    proxy.cut();
    await delay(300 + 1_500 * random());
    proxy.pass();
  },
  "way to redis hangs": async (cluster, random) => {
    const { proxy } = oneOf(cluster, random);
    proxy.hang();
    await delay(300 + 1_500 * random());
    proxy.pass();
  },
  "feeds killed": async ({ redis }) => {
    await redis.cli("CLIENT", "KILL", "TYPE", "pubsub");
  },
  "everything flushed": async ({ redis }) => {
    await redis.cli("FLUSHDB");
  },
  "instance killed": async (cluster, random) => {
    const instance = oneOf(cluster, random);
    await instance.service.kill();
    instance.life++;
    await instance.service.start();
  },
  "postgres restarted": async ({ postgres }) => {
    await postgres.restart();
  },
};

/** The duration and density of the faults. */
export interface Torment {
  readonly random: Random;
  /** The longest pause between two faults. */
  readonly restMsMax: number;
  /** Ends it after the current fault. */
  readonly signal: AbortSignal;
}

/** Causes faults until told to stop, and answers how often each occurred. All are healed on return. */
export async function torment(
  cluster: Cluster,
  { random, restMsMax, signal }: Torment,
): Promise<ReadonlyMap<string, number>> {
  const counts = new Map<string, number>();
  const names = Object.keys(FAULTS);
  let bag: string[] = [];
  while (!signal.aborted) {
    // Each fault once before any is repeated, so that a short run has all of them.
    if (bag.length === 0) bag = [...names];
    const [name = ""] = bag.splice(Math.floor(random() * bag.length), 1);
    await FAULTS[name]?.(cluster, random);
    counts.set(name, (counts.get(name) ?? 0) + 1);
    await delay(200 + (restMsMax - 200) * random());
  }
  return counts;
}

function oneOf({ instances }: Cluster, random: Random): Instance {
  const instance = instances[Math.floor(random() * instances.length)];
  if (instance === undefined) throw new Error("Cannot choose an instance: there is none");
  return instance;
}
