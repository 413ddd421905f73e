/**
 * The interface between the races and a cache: a read and a write, which every application has.
 *
 * @module
 */
import type { RaceDatabase, RacePool } from "./database.ts";

export type { RaceDatabase, RacePool };

/** A cache that the races can be run with. */
export interface RaceAdapter {
  /** The name of the library in reports. */
  readonly name: string;
  /** Its version. */
  readonly version?: string;
  /** The page that recommends this set-up for several instances. */
  readonly docs?: string;
  /** A remark on the set-up, for readers. */
  readonly note?: string;
  /** Opens one instance of an application. Two are opened, which share Redis and Postgres. */
  open(surroundings: Surroundings): Promise<RaceInstance>;
}

/** The servers of one instance. */
export interface Surroundings {
  /** `redis://127.0.0.1:…`, through a proxy of this instance. */
  readonly redisUrl: string;
  /** The same as host and port. */
  readonly redis: { readonly host: string; readonly port: number };
  /** The table with the items. */
  readonly db: RaceDatabase;
}

/** One instance of an application that caches items. */
export interface RaceInstance {
  /** Answers the value of an item from the cache, otherwise from `db.find()`, and keeps it for five minutes. */
  read(id: number): Promise<string | undefined>;
  /** Changes an item with `db.update()`, and tells the cache. Resolves when the write is acknowledged. */
  write(id: number, value: string): Promise<void>;
  /** Closes every connection. */
  close(): Promise<void>;
}
