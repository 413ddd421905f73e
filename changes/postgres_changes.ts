import type {
  CacheServer,
  CatchUpRequest,
  ChangedCache,
  ChangeFollower,
  Changes,
  ChangeSource,
  ChangesStats,
  OwnWrite,
  TableUse,
  WatchedTable,
} from "@lookaside/cache";
import { type AnyDatabase, changesDatabase } from "./adapters/any_database.ts";
import { applyChanges, InvalidationPendingError, namesOf, resetServer } from "./apply.ts";
import { answering, type ChangesDatabase } from "./database.ts";
import { Follower } from "./follower.ts";
import type { ChangesProblem } from "./health.ts";
import { installUnasked } from "./install.ts";
import { labelOf } from "./names.ts";
import { assertChangesOptions, type PostgresChangesOptions } from "./options.ts";
import { ChangeFeed } from "./relay.ts";
import { safely, seldom } from "./_safely.ts";
import { sqlStateOf } from "./_sqlstate.ts";
import { WatchedTables } from "./watched_tables.ts";

/** Interval at which used tables are checked for still being watched. */
const RECHECK_MS = 60_000;

/**
 * The changes of a Postgres database, for the option `changes` of a cache.
 *
 * @throws {TypeError} The database is no pool of a known driver, or an option is unknown or has another type.
 * @throws {RangeError} A duration is out of range.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 * import { type ChangesDatabase, postgresChanges } from "@lookaside/changes";
 *
 * const down: ChangesDatabase = { // new pg.Pool(), postgres(), new PGlite(), …
 *   query: () => Promise.reject(new Error("down")),
 *   transaction: () => Promise.reject(new Error("down")),
 * };
 * const cache = new Cache({ changes: postgresChanges(down) });
 * await assert.rejects(cache.changes.caughtUp(), { message: "down" });
 * await cache.close();
 * ```
 */
export function postgresChanges(
  database: AnyDatabase,
  options: PostgresChangesOptions = {},
): ChangeSource {
  assertChangesOptions(options);
  const { listen, ...others } = options;
  const port = listeningOn(changesDatabase(database), listen);
  return { attach: (cache) => new PostgresChanges(port, others, cache) };
}

/**
 * Relays every change to every server of a cache separately: an unreachable server of a ring does not delay the
 * others, and gets all changes that it missed once it is back.
 *
 * Each server gets all keys, not only its own:
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
  readonly #database: ChangesDatabase;
  /** The same, for relaying. */
  readonly #relayed: Disposable;
  readonly #feeds: ReadonlyMap<string, ChangeFeed>;
  /** By server, while memory stands in for it. */
  readonly #followers = new Map<string, Follower>();
  readonly #tables: WatchedTables;
  readonly #installed: () => Promise<void>;
  readonly follower?: ChangeFollower;
  readonly #onError: (error: unknown) => void;
  readonly #onProblem: (problem: ChangesProblem) => void;
  #recheck: { cancel(): void } | undefined;
  #rechecking: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(
    database: ChangesDatabase,
    options: Omit<PostgresChangesOptions, "listen">,
    cache: ChangedCache,
  ) {
    const { cacheName, install = true, fallback = true, invalidates, ...feedOptions } = options;
    this.#cache = cache;
    this.#database = database;
    this.#tables = new WatchedTables(database);
    const { onError = () => undefined } = options;
    this.#onError = safely(seldom(cache.clock, onError));
    this.#onProblem = safely(
      // It is called once a minute, so none may count as a repetition.
      options.onProblem ?? (({ problem, remedy }) => onError(new Error(`${problem}. ${remedy}`))),
      this.#onError,
    );
    const onInvalidated = safely(options.onInvalidated ?? (() => undefined), this.#onError);
    this.#installed = once(async () => {
      if (install) await this.#install(database);
      await this.#tables.learn().catch(this.#onError);
    });
    const writer = crypto.randomUUID();
    const relayed = this.#relayed = answering(database, cache.clock);
    const feedOf = (server: CacheServer) =>
      new ChangeFeed(relayed, {
        ...feedOptions,
        clock: cache.clock,
        onError: this.#onError,
        onProblem: this.#onProblem,
        cacheName: nameIn(cache, server, cacheName),
        cacheEnds: cache.kind === "process",
        writer,
        namesOf: (change) => namesOf(change, invalidates),
        apply: async (changes, names) => {
          try {
            onInvalidated(await applyChanges(server, changes, { invalidates, names }));
          } catch (error) {
            if (error instanceof InvalidationPendingError) throw error;
            // `invalidates` has failed, and would fail again: no later change would ever be applied.
            this.#onError(error);
            await resetServer(server);
            onInvalidated({ everything: true });
          }
        },
        follower: () => this.#followerOf(server),
        reset: async (registration) => {
          const follower = this.#followerOf(server);
          if (registration !== undefined && follower !== undefined) {
            // To clear the cache would drop what was loaded since, at each attempt.
            follower.startOver(registration);
            throw new InvalidationPendingError(
              "Redis cannot be reached, so the cache is not cleared yet. It is tried again",
            );
          }
          await resetServer(server);
          onInvalidated({ everything: true });
        },
      });
    if (fallback) {
      this.follower = {
        covers: (tags) => this.#tables.cover(tags),
        follow: (name, listener, follow) => {
          const follower = new Follower(relayed, listener, {
            ...follow,
            invalidates,
            clock: cache.clock,
            onError: this.#onError,
            cacheName: nameIn(cache, { name }, cacheName),
          });
          this.#followers.set(name, follower);
          return {
            [Symbol.asyncDispose]: () => {
              this.#followers.delete(name);
              return follower[Symbol.asyncDispose]();
            },
          };
        },
      };
    }
    this.#feeds = new Map(cache.servers.map((server) => [server.name, feedOf(server)]));
    // A relay that finds no schema tries again: it may be installed meanwhile.
    const start = () => this.#feeds.forEach((feed) => feed.start());
    void this.#installed().catch(this.#onError).then(start);
    this.#recheckLater();
  }

  async caughtUp(): Promise<void> {
    await this.#installed();
    await Promise.all([...this.#feeds].map(async ([name, feed]) => {
      // While memory stands in for Redis, this process reads nothing that its own looks do not reach.
      if (await this.#followerOf({ name })?.looked()) return;
      await feed.catchUp({ replay: false });
    }));
    await this.#cache.followed();
  }

  async catchUp({ server, replay }: CatchUpRequest): Promise<void> {
    await this.#installed();
    await this.#feeds.get(server)?.catchUp({ replay });
  }

  /**
   * One mark for all servers. A ring's cache deletes a key on its present server, and renews tags on all. The
   * relay deletes the key on the others, which may have had it before, or in a process with another ring.
   */
  async beginWrite(): Promise<OwnWrite> {
    const writes = new Map<string, OwnWrite>();
    let mark: string | undefined;
    for (const [server, feed] of this.#feeds) {
      const write = await feed.beginWrite(mark);
      mark = write.mark;
      writes.set(server, write);
    }
    const isOn = (server: string) => (key: string) => this.#cache.serverOf(key).name === server;
    return {
      mark: mark ?? "",
      invalidated: ({ keys, tags }) => {
        writes.forEach((each, server) =>
          each.invalidated({ keys: keys.filter(isOn(server)), tags })
        );
      },
      [Symbol.dispose]: () => writes.forEach((each) => each[Symbol.dispose]()),
    };
  }

  async source(): Promise<string> {
    const rows = await this.#database.query<{ name: string }>(
      `SELECT current_database()::TEXT || ' on the server ' || system_identifier::TEXT AS name
       FROM pg_control_system()`,
    );
    return rows[0]?.name ?? "";
  }

  async watched(use: TableUse): Promise<WatchedTable> {
    await this.#installed();
    const asked = this.#tables.of(use);
    if (asked.isNew) asked.table.catch(this.#onError);
    return await asked.table;
  }

  /** Sums up the figures of all relays; the lag is the longest. */
  async stats(): Promise<ChangesStats> {
    const all = await Promise.all([...this.#feeds.values()].map((feed) => feed.stats()));
    return all.reduce((sum, one) => ({
      applied: sum.applied + one.applied,
      replayed: sum.replayed + one.replayed,
      backlog: sum.backlog + one.backlog,
      lagMs: Math.max(sum.lagMs, one.lagMs),
      heldMs: Math.max(sum.heldMs, one.heldMs),
      bytes: Math.max(sum.bytes, one.bytes),
    }));
  }

  /** Ends after the running batches. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#relayed[Symbol.dispose]();
    this.#recheck?.cancel();
    await this.#rechecking;
    await Promise.all([...this.#feeds.values()].map((feed) => feed[Symbol.asyncDispose]()));
  }

  /** Looks for changes for this process alone, while the server is away. */
  #followerOf({ name }: Pick<CacheServer, "name">): Follower | undefined {
    const found = this.#followers.get(name);
    return found?.isAway() ? found : undefined;
  }

  /** Ignores that the role may not install: somebody else may have done it. */
  async #install(database: ChangesDatabase): Promise<void> {
    try {
      (await installUnasked(database)).forEach(this.#onProblem);
    } catch (error) {
      if (sqlStateOf(error) !== "42501") throw error;
    }
  }

  #recheckLater(): void {
    this.#recheck = this.#cache.clock.after(RECHECK_MS, () => {
      this.#rechecking = this.#recheckNow().then(() => this.#closed || this.#recheckLater());
    });
  }

  /** Changes of a table that is no longer watched are not reported, so its entries must go. */
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
}

/** Runs the work once; again only if it failed. */
function once(work: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => {
    const running = done ??= work();
    running.catch(() => {
      if (done === running) done = undefined;
    });
    return running;
  };
}

/** The database, listening through another one, or not at all. */
function listeningOn(
  database: ChangesDatabase,
  listen: PostgresChangesOptions["listen"],
): ChangesDatabase {
  if (listen === undefined) return database;
  const { listen: other } = listen === false ? {} : changesDatabase(listen);
  const { query, transaction } = database;
  return { query, transaction, ...(other === undefined ? {} : { listen: other }) };
}

/**
 * The name of a server of a cache in the database: the same in every process, whatever the other servers of a
 * ring are. Without the key version, since an invalidation covers the neighbouring versions.
 */
function nameIn(
  { kind, prefix }: ChangedCache,
  server: Pick<CacheServer, "name">,
  cacheName?: string,
): string {
  if (kind === "process") return `process:${crypto.randomUUID()}`;
  if (cacheName === undefined) return `redis:${server.name}/${prefix}`;
  return kind === "ring" ? `${cacheName}/${server.name}` : cacheName;
}
