/**
 * Instances of a cache that share a Redis, as tests set them up.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import {
  Cache,
  type CacheEvent,
  type CacheOptions,
  type CacheServer,
  type ChangeSource,
  type Loader,
} from "../../../cache/mod.ts";
import { NO_CHANGES } from "../../../cache/changes.ts";
import type { Store } from "../../../cache/store.ts";
import { eventually } from "../../../tools/servers/eventually.ts";
import type { RedisServer } from "../../../tools/servers/redis_server.ts";
import { PATIENT } from "../../support/patient.ts";

/** An instance of the service, as far as its cache goes, and what its cache has told so far. */
export interface Node extends AsyncDisposable {
  /** Its cache. */
  readonly cache: Cache;
  /** Every event so far. */
  readonly events: readonly CacheEvent[];
  /** Whether it has to catch up with its servers before it reads from them. */
  readonly catchesUp: boolean;
  /** How many events of a type there were, narrowed down by `matching`. */
  count(type: CacheEvent["type"], matching?: Readonly<Record<string, unknown>>): number;
}

/**
 * Opens an instance. TTLs without spread and no early refresh, so that a test counts what it causes;
 * bounds on silence that a busy machine does not reach by itself.
 */
export function openNode(url: string, options: CacheOptions = {}, store?: Store): Node {
  const events: CacheEvent[] = [];
  const cache = new Cache({
    url,
    jitterRatio: 0,
    earlyRefreshBeta: 0,
    ...PATIENT,
    onEvent: (event) => void events.push(event),
    ...options,
  }, store);
  return {
    cache,
    events,
    catchesUp: url !== "memory:",
    count: (type, matching = {}) =>
      events.filter((event) =>
        event.type === type &&
        Object.entries(matching).every(([name, value]) => Reflect.get(event, name) === value)
      ).length,
    [Symbol.asyncDispose]: () => cache.close(),
  };
}

/** A source of changes in which nothing changes, and which says so while memory replaces the server. */
export const QUIET: ChangeSource = {
  attach: () => ({
    ...NO_CHANGES,
    follower: {
      covers: () => true,
      follow: (_server, listener, { everyMs }) => {
        const timer = setInterval(() => listener.alive(performance.now()), everyMs);
        return {
          [Symbol.asyncDispose]() {
            clearInterval(timer);
            return Promise.resolve();
          },
        };
      },
    },
  }),
};

/** A source of changes that a server is caught up with by `catchUp`, and that tells nothing by itself. */
export function changesThat(
  catchUp: (server: CacheServer, replay: boolean) => Promise<void>,
): ChangeSource {
  return {
    attach: ({ servers }) => ({
      ...NO_CHANGES,
      catchUp: async ({ server, replay }) => {
        const found = servers.find(({ name }) => name === server);
        if (found === undefined) throw new Error(`Cannot catch up: there is no ${server}`);
        await catchUp(found, replay);
      },
    }),
  };
}

/** A prefix that no other test uses, so that tests may share a server. */
export function freshPrefix(): string {
  return `t${crypto.randomUUID().slice(0, 8)}`;
}

/** Waits until the memory of every node may be trusted and Redis is asked. */
export async function coherent(...nodes: readonly Node[]): Promise<void> {
  await eventually(() => {
    for (const { cache, catchesUp, count } of nodes) {
      // Until then it is not read, or may yet be cleared.
      if (catchesUp) assert(count("caught-up") > 0, "the server has not been caught up with");
      const { coherent, breaker, pendingInvalidations } = cache.stats();
      assertEquals({ coherent, breaker, pendingInvalidations }, {
        coherent: true,
        breaker: "closed",
        pendingInvalidations: 0,
      });
    }
  });
}

/** Opens so many nodes on one Redis, or several, under one fresh prefix, and waits until they are up. */
export async function openNodes(
  server: { readonly serviceUrl: string },
  count: number,
  options: CacheOptions = {},
): Promise<Node[]> {
  const prefix = freshPrefix();
  const nodes = Array.from(
    { length: count },
    () => openNode(server.serviceUrl, { prefix, ...options }),
  );
  try {
    await coherent(...nodes);
  } catch (error) {
    await closeAll(nodes);
    throw error;
  }
  return nodes;
}

/** Closes nodes. */
export async function closeAll(nodes: readonly Node[]): Promise<void> {
  await Promise.all(nodes.map(({ cache }) => cache.close()));
}

/** Reads a key on each node until its memory answers. */
export async function holdInMemory<T>(
  nodes: readonly Node[],
  key: string,
  load: Loader<T>,
): Promise<void> {
  await eventually(async () => {
    for (const { cache } of nodes) {
      assertEquals((await cache.getOrLoad(key, load)).source, "memory");
    }
  });
}

/** A row of a database, which counts how often it is read and can be slow to answer. */
export class Row {
  /** The value as it stands. */
  value: string;
  /** How often it was read. */
  reads = 0;
  #gate: Promise<void> | undefined;
  #read = Promise.withResolvers<void>();

  constructor(value: string) {
    this.value = value;
  }

  /** A loader: what it answers is what stood when it began. */
  readonly load = async (): Promise<string> => {
    this.reads++;
    const seen = this.value;
    this.#read.resolve();
    await this.#gate;
    return seen;
  };

  /** Resolves once the row has been read. */
  async wasRead(): Promise<void> {
    await this.#read.promise;
  }

  /** Holds back answers until the function it answers is called. */
  hold(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gate = promise;
    this.#read = Promise.withResolvers<void>();
    return () => {
      this.#gate = undefined;
      resolve();
    };
  }
}

/** The ids of the feed connections that are open on a server. */
export async function feedIds(server: RedisServer): Promise<string[]> {
  const lines = (await server.cli("CLIENT", "LIST")).split("\n");
  return lines.filter((line) => / flags=\w*B/.test(line)).map((line) => {
    const id = /^id=(\d+) /.exec(line)?.[1];
    assert(id !== undefined, line);
    return id;
  });
}
