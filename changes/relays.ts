/**
 * The change feeds of a cache: one for each of its servers.
 *
 * @module
 */
import type { CacheServer, CatchUpRequest } from "../cache/mod.ts";
import { ChangeFeed, type ChangeFeedOptions, type ChangeFeedStats } from "./relay.ts";
import type { Database } from "../db/database.ts";
import { applyChanges, type Invalidated, resetCache } from "./invalidation.ts";

/** What every feed is made with. */
export interface RelaysOptions extends Omit<ChangeFeedOptions, "cacheName" | "apply" | "reset"> {
  /** What a server of the cache is called in the database, by its name in the cache. */
  readonly nameOf: (server: string) => string;
  /** Told what was invalidated on a server, once it is. */
  readonly onInvalidated: (names: Partial<Invalidated> & { readonly everything?: boolean }) => void;
}

/**
 * Relays every change to every server of a cache, each by itself: a server of a ring that is away does not
 * hold up the others, and is told all that it missed when it is back.
 *
 * Each is told of all keys, not only of those that it owns:
 *
 * ```text
 * 1. ring of A and B: key k is on A
 * 2. restart as a ring of A, B and C: k is on C, and A still holds its copy
 * 3. writer: UPDATE of k; C is told
 * 4. restart as the ring of 1: k is read from A
 * ```
 */
export class Relays implements AsyncDisposable {
  readonly #feeds: ReadonlyMap<string, ChangeFeed>;

  /** Does nothing until {@linkcode Relays.start}. */
  constructor(
    servers: readonly CacheServer[],
    database: Database,
    { nameOf, onInvalidated, ...options }: RelaysOptions,
  ) {
    this.#feeds = new Map(
      servers.map((server) => [
        server.name,
        new ChangeFeed(database, {
          ...options,
          cacheName: nameOf(server.name),
          apply: async (batch) => onInvalidated(await applyChanges(server, batch)),
          reset: async () => {
            await resetCache(server);
            onInvalidated({ everything: true });
          },
        }),
      ]),
    );
  }

  /** Begins to relay. */
  start(): void {
    for (const feed of this.#feeds.values()) feed.start();
  }

  /** As {@linkcode ChangeFeed.catchUp}, for one server. */
  async catchUp({ server, replay }: CatchUpRequest): Promise<void> {
    await this.#feeds.get(server)?.catchUp({ replay });
  }

  /** As {@linkcode CatchUpRequest} without a replay, for all servers. */
  async catchUpAll(): Promise<void> {
    await Promise.all([...this.#feeds.values()].map((feed) => feed.catchUp({ replay: false })));
  }

  /** What all did together; the lag is that of the furthest behind. */
  async stats(): Promise<ChangeFeedStats> {
    const all = await Promise.all([...this.#feeds.values()].map((feed) => feed.stats()));
    return all.reduce((sum, one) => ({
      applied: sum.applied + one.applied,
      replayed: sum.replayed + one.replayed,
      backlog: sum.backlog + one.backlog,
      lagMs: Math.max(sum.lagMs, one.lagMs),
    }));
  }

  /** Ends after the batches under way. */
  async close(): Promise<void> {
    await Promise.all([...this.#feeds.values()].map((feed) => feed.close()));
  }

  /** As {@linkcode Relays.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
