import type {
  CacheServer,
  CatchUpRequest,
  ChangedCache,
  Changes,
  ChangeSource,
  ChangesStats,
  TableUse,
  WatchedTable,
} from "@lookaside/cache";
import { applyChanges, type Invalidated, type Invalidates, resetServer } from "./apply.ts";
import type { ChangesDatabase } from "./database.ts";
import type { WatchProblem } from "./install.ts";
import { ChangeFeed } from "./relay.ts";
import { labelOf } from "./names.ts";
import { WatchedTables } from "./watched_tables.ts";

/** How often it is looked whether the tables in use are still watched. */
const RECHECK_MS = 60_000;

/** Options of {@linkcode postgresChanges}. Durations are milliseconds. */
export interface PostgresChangesOptions {
  /**
   * The name of the cache in the database: the same in every process that uses it. Default: where its
   * Redis is, and its prefix.
   */
  readonly cacheName?: string;
  /** Whether to `LISTEN` for wake-ups. Default true. */
  readonly listen?: boolean;
  /** How often changes are looked for without a wake-up. Default 1,000. */
  readonly pollMs?: number;
  /** How long applied changes are kept, for a Redis that lost them. Default 300,000. */
  readonly replayWindowMs?: number;
  /** By table: what a change of it invalidates. Default: what `table()` has stored. */
  readonly invalidates?: Invalidates;
  /** Called with what was invalidated on a server, once it is. */
  readonly onInvalidated?: (
    names: Partial<Invalidated> & { readonly everything?: boolean },
  ) => void;
  /** Called each minute with what is wrong with a watched table and could not be put right. */
  readonly onProblem?: (problem: WatchProblem) => void;
  /** Called when Postgres fails, or Redis to take an invalidation. Both are tried again. */
  readonly onError?: (error: unknown) => void;
}

/** The changes of a Postgres database, for the option `changes` of a cache. */
export function postgresChanges(
  database: ChangesDatabase,
  options: PostgresChangesOptions = {},
): ChangeSource {
  return { attach: (cache) => new PostgresChanges(database, options, cache) };
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
class PostgresChanges implements Changes {
  readonly #cache: ChangedCache;
  readonly #feeds: ReadonlyMap<string, ChangeFeed>;
  readonly #tables: WatchedTables;
  readonly #onError: (error: unknown) => void;
  #recheck: { cancel(): void } | undefined;
  #rechecking: Promise<void> = Promise.resolve();

  constructor(database: ChangesDatabase, options: PostgresChangesOptions, cache: ChangedCache) {
    const { cacheName, invalidates, onInvalidated, ...feedOptions } = options;
    this.#cache = cache;
    this.#tables = new WatchedTables(database);
    this.#onError = options.onError ?? (() => undefined);
    const feedOf = (server: CacheServer) =>
      new ChangeFeed(database, {
        ...feedOptions,
        clock: cache.clock,
        cacheName: nameIn(cache, server, cacheName),
        cacheEnds: cache.kind === "process",
        apply: async (batch) => {
          const names = await applyChanges(server, batch, invalidates);
          onInvalidated?.(names);
        },
        reset: async () => {
          await resetServer(server);
          onInvalidated?.({ everything: true });
        },
      });
    this.#feeds = new Map(cache.servers.map((server) => [server.name, feedOf(server)]));
    for (const feed of this.#feeds.values()) feed.start();
    this.#recheckLater();
  }

  async caughtUp(): Promise<void> {
    await Promise.all([...this.#feeds.values()].map((feed) => feed.catchUp({ replay: false })));
    await this.#cache.followed();
  }

  async catchUp({ server, replay }: CatchUpRequest): Promise<void> {
    await this.#feeds.get(server)?.catchUp({ replay });
  }

  async watched(use: TableUse): Promise<WatchedTable> {
    const asked = this.#tables.of(use);
    if (asked.isNew) asked.table.catch(this.#onError);
    return await asked.table;
  }

  /** Sums up the figures of all feeds; the lag is that of the furthest behind. */
  async stats(): Promise<ChangesStats> {
    const all = await Promise.all([...this.#feeds.values()].map((feed) => feed.stats()));
    return all.reduce((sum, one) => ({
      applied: sum.applied + one.applied,
      replayed: sum.replayed + one.replayed,
      backlog: sum.backlog + one.backlog,
      lagMs: Math.max(sum.lagMs, one.lagMs),
    }));
  }

  #recheckLater(): void {
    this.#recheck = this.#cache.clock.after(RECHECK_MS, () => {
      this.#rechecking = this.#recheckNow().finally(() => this.#recheckLater());
    });
  }

  /** Nobody tells of what is not watched any more, so nothing of it may stay. */
  async #recheckNow(): Promise<void> {
    try {
      for (const { use, error } of await this.#tables.recheck()) {
        this.#onError(error);
        const changes = [{ table: labelOf([use.schema, use.name]), keys: undefined, values: [] }];
        for (const server of this.#cache.servers) await applyChanges(server, changes);
      }
    } catch (error) {
      this.#onError(error);
    }
  }

  /** Ends after the batches under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#recheck?.cancel();
    await this.#rechecking;
    await Promise.all([...this.#feeds.values()].map((feed) => feed.close()));
  }
}

/**
 * The name of a server of a cache in the database: the same in every process that uses it, in a ring of
 * whatever others. Without the key version, for an invalidation covers the neighbouring ones.
 */
function nameIn({ kind, prefix }: ChangedCache, server: CacheServer, cacheName?: string): string {
  if (kind === "process") return `process:${crypto.randomUUID()}`;
  if (cacheName === undefined) return `redis:${server.name}/${prefix}`;
  return kind === "ring" ? `${cacheName}/${server.name}` : cacheName;
}
