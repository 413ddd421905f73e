/**
 * Faults in the middle of a load, only on servers that were started for it.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { connect } from "@db/driver";
import { seed } from "../../seed.ts";
import { type PostgresServer, startPostgres } from "../servers/postgres_server.ts";
import { type RedisServer, startRedis } from "../servers/redis_server.ts";

/** The options that cause a fault. */
export type FaultName = "kill-redis-at" | "hang-redis-at" | "stop-postgres-at";

export interface FaultKind {
  /** A description of its beginning. */
  readonly begins: string;
  /** A description of its end, for the second half of that sentence. */
  readonly ends: string;
  readonly begin: (servers: OwnServers) => Promise<void>;
  readonly end: (servers: OwnServers) => Promise<void>;
}

/** The faults by their option. */
export const FAULTS: Readonly<Record<FaultName, FaultKind>> = {
  "kill-redis-at": {
    begins: "Redis is killed",
    ends: "started again, empty,",
    begin: ({ redis }) => redis.kill(),
    end: ({ redis }) => redis.start(),
  },
  "hang-redis-at": {
    begins: "Redis hangs",
    ends: "goes on",
    begin: ({ redis }) => Promise.resolve(redis.pause()),
    end: ({ redis }) => Promise.resolve(redis.resume()),
  },
  "stop-postgres-at": {
    begins: "Postgres is stopped",
    ends: "started again",
    begin: async ({ postgres }) => void await postgres.stop(),
    end: ({ postgres }) => postgres.start(),
  },
};

/** One fault and its time. */
export interface Fault {
  /** The kind. */
  readonly name: FaultName;
  /** Its beginning, in seconds from the start of the load. */
  readonly atS: number;
  /** Its duration in seconds. */
  readonly forS: number;
}

/** A Redis and a Postgres with users, removed on disposal. */
export class OwnServers implements AsyncDisposable {
  readonly redis: RedisServer;
  readonly postgres: PostgresServer;

  private constructor(redis: RedisServer, postgres: PostgresServer) {
    this.redis = redis;
    this.postgres = postgres;
  }

  /**
   * Starts both and makes `count` users.
   *
   * @throws {Deno.errors.NotFound} `redis-server`, or `initdb` and `postgres`, are not installed.
   */
  static async start(count: number): Promise<OwnServers> {
    await using started = new AsyncDisposableStack();
    const redis = started.use(await startRedis());
    const postgres = started.use(await startPostgres());
    await using database = connect({ url: postgres.url, poolMax: 2 });
    await seed(database, { count });
    started.move();
    return new OwnServers(redis, postgres);
  }

  /** Causes a fault while `work` runs. Both servers run again afterwards. */
  async during<T>(fault: Fault | undefined, work: () => Promise<T>): Promise<T> {
    if (fault === undefined) return await work();
    const over = new AbortController();
    const happening = this.#happen(fault, over.signal);
    try {
      return await work();
    } finally {
      over.abort();
      await happening;
    }
  }

  /** Ends both. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.redis[Symbol.asyncDispose]();
    await this.postgres[Symbol.asyncDispose]();
  }

  async #happen({ name, atS, forS }: Fault, over: AbortSignal): Promise<void> {
    const { begin, end } = FAULTS[name];
    await passed(atS, over);
    if (over.aborted) return;
    await begin(this);
    await passed(forS, over);
    await end(this);
  }
}

/** Resolves after that time, or when `over` is aborted. */
async function passed(seconds: number, over: AbortSignal): Promise<void> {
  await delay(seconds * 1_000, undefined, { signal: over }).catch(() => undefined);
}
