/**
 * The parts of a row of the table.
 *
 * @module
 */
import type { Tolerance } from "./measure.ts";
import { type Backend, type Standalone, startStandalone, startWorld, type World } from "./world.ts";

/** Ends a fault. The fault counts as over when it resolves. */
export type Heal = () => Promise<void> | void;

/** The expectations of the service during a fault. */
export interface Expected {
  /** Permitted failures. Default: none. */
  readonly tolerates?: Tolerance;
  /** Redis is unusable: the service should be about as fast as without a cache. */
  readonly redisGone?: boolean;
  /** Redis does not answer: no request should wait for it twice. */
  readonly redisHangs?: boolean;
  /** It ends by itself. */
  readonly endsByItself?: boolean;
}

/** One row of the table. */
export interface Fault extends Expected {
  /** Its name in the table. */
  readonly name: string;
  /** Faults with the same function can run one after the other in one world. */
  readonly startWorld: () => Promise<World>;
  /** True if it is part of the short run. */
  readonly short: boolean;
  /** Prepares the world before the load starts. Answers how to undo it, or why this machine cannot have the fault. */
  prepare(world: World): Promise<Heal | string>;
  /** Causes the fault, and answers how to end it. */
  start(world: World): Promise<Heal>;
  /** A remark on the world during the fault. */
  remark?(world: World): Promise<string>;
}

/** The description from which {@linkcode faultsOf} makes a row. */
export interface FaultSpec<B extends Backend> extends Expected {
  readonly name: string;
  readonly short?: boolean;
  readonly prepare?: (world: World<B>) => Promise<Heal | string>;
  readonly start: (world: World<B>) => Promise<Heal> | Heal;
  readonly remark?: (world: World<B>) => Promise<string>;
}

/** Makes rows from faults of one kind of world. */
export function faultsOf<B extends Backend>(
  openWorld: () => Promise<World<B>>,
  specs: readonly FaultSpec<B>[],
): Fault[] {
  // A row only gets worlds that it, or a row of the same kind, has started.
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
