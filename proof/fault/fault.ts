/**
 * What a row of the table is made of.
 *
 * @module
 */
import type { Tolerance } from "./measure.ts";
import { type Backend, type Standalone, startStandalone, startWorld, type World } from "./world.ts";

/** Ends a fault. The fault counts as over when it resolves. */
export type Heal = () => Promise<void> | void;

/** What is expected of the service while a fault lasts. */
export interface Expected {
  /** What may fail. Default: nothing. */
  readonly tolerates?: Tolerance;
  /** Redis is of no use: the service should be about as fast as without a cache. */
  readonly redisGone?: boolean;
  /** Redis does not answer: nobody should wait for it twice. */
  readonly redisHangs?: boolean;
  /** Nobody heals it: its end is only waited for. */
  readonly endsByItself?: boolean;
}

/** One row of the table. */
export interface Fault extends Expected {
  /** What happens, as the table says it. */
  readonly name: string;
  /** Faults that share it can follow one another in one world. */
  readonly startWorld: () => Promise<World>;
  /** Whether it is part of the short run. */
  readonly short: boolean;
  /**
   * Prepares the world before the load starts. Answers how that is undone, or why this machine cannot
   * have the fault.
   */
  prepare(world: World): Promise<Heal | string>;
  /** Breaks something, and answers how that is healed. */
  start(world: World): Promise<Heal>;
  /** What else there is to say about the world while the fault lasts. */
  remark?(world: World): Promise<string>;
}

/** What {@linkcode faultsOf} makes rows of. */
export interface FaultSpec<B extends Backend> extends Expected {
  readonly name: string;
  readonly short?: boolean;
  readonly prepare?: (world: World<B>) => Promise<Heal | string>;
  readonly start: (world: World<B>) => Promise<Heal> | Heal;
  readonly remark?: (world: World<B>) => Promise<string>;
}

/** Makes rows of faults that happen to one kind of world. */
export function faultsOf<B extends Backend>(
  openWorld: () => Promise<World<B>>,
  specs: readonly FaultSpec<B>[],
): Fault[] {
  // A row is handed only worlds that it has started itself, or that another of its kind has.
  const own = (world: World) => world as World<B>;
  return specs.map(({ prepare, start, remark, ...spec }) => ({
    short: false,
    ...spec,
    startWorld: openWorld,
    prepare: async (world) => await prepare?.(own(world)) ?? (() => undefined),
    start: async (world) => await start(own(world)),
    ...(remark === undefined ? {} : { remark: (world) => remark(own(world)) }),
  }));
}

/** Two instances on one Redis and one Postgres. */
export function startDefaultWorld(): Promise<World<Standalone>> {
  return startWorld({ backend: startStandalone });
}
