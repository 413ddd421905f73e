/**
 * The interface to a source of changes: `@lookaside/changes` for Postgres, or another implementation.
 *
 * @module
 */
import type { Clock } from "./runtime.ts";

/**
 * The outcome of an invalidation: `applied`, or `pending` because Redis could not be reached. A pending one
 * already holds in this process, which reads nothing from Redis until a retry has applied it.
 */
export type Invalidation = "applied" | "pending";

/** A source of changes, given to a cache as its option `changes`. */
export interface ChangeSource {
  /** Starts to apply changes to the servers of a cache. The constructor of the cache calls this once. */
  attach(cache: ChangedCache): Changes;
}

/** A cache, as a {@linkcode ChangeSource} sees it. */
export interface ChangedCache {
  /** Its servers: several for a ring, otherwise one. */
  readonly servers: readonly CacheServer[];
  /** Separates its entries from those of other caches on the same servers. */
  readonly prefix: string;
  /** `process`: it ends with this process. `ring`: each server is told separately, and the list may change. */
  readonly kind: "process" | "shared" | "ring";
  /** Its clock. */
  readonly clock: Clock;
  /** The server on which `Cache.delete` invalidates this key. */
  serverOf(key: string): CacheServer;
  /** Resolves once this process has dropped everything that a server had announced as changed. */
  followed(): Promise<void>;
}

/**
 * One server of a cache; only a ring has several. Each is told of changes separately, so that an unreachable
 * server does not delay the others.
 */
export interface CacheServer {
  /** The same in every process: `host:port` in a ring, otherwise the name in the URL. Empty without a server. */
  readonly name: string;
  /** As `Cache.delete`, on this server, even if another now owns the keys: this one may have owned them before. */
  delete(...keys: string[]): Promise<Invalidation>;
  /** As `Cache.invalidateTags`, for the entries of this server. */
  invalidateTags(...tags: string[]): Promise<Invalidation>;
  /** As `Cache.clear`, for the entries of this server. */
  clear(): Promise<Invalidation>;
}

/** The changes that are reported to a cache. */
export interface Changes extends AsyncDisposable {
  /**
   * Resolves once every change that was committed before the call is applied: a read that begins afterwards sees
   * it, regardless of who wrote it.
   *
   * @throws {Error} The source of truth is unavailable, or Redis is and memory does not stand in for it. Call
   * {@linkcode Cache.clear} then, if a read must not answer what this process has.
   */
  caughtUp(): Promise<void>;
  /** Does the same for one server. The cache calls it before it trusts that server. */
  catchUp(request: CatchUpRequest): Promise<void>;
  /**
   * Begins a write that the caller invalidates itself: the source then skips it, so entries filled after the
   * invalidation stay. Never rejects because of the source.
   */
  beginWrite(): Promise<OwnWrite>;
  /**
   * Resolves once it is known whether changes of a table are reported with this key and these columns. Can be
   * called again for the current state.
   *
   * @throws {TypeError} Changes are not reported: the table or a column does not exist, or may not be watched.
   */
  watched(table: TableUse): Promise<WatchedTable>;
  /** Counts applied changes, and looks up how many are left to apply. */
  stats(): Promise<ChangesStats>;
  /** A unique name of the source of truth. Absent: sources cannot be told apart. */
  source?(): Promise<string>;
  /** Lets memory stand in for unreachable servers. Absent: reads go to the source meanwhile. */
  readonly follower?: ChangeFollower;
}

/**
 * An optional part of {@linkcode Changes}: reports changes directly to one process, without the cache servers,
 * which may be unreachable.
 */
export interface ChangeFollower {
  /** True if it reports every change that affects entries with exactly these tags. */
  covers(tags: readonly string[]): boolean;
  /**
   * Reports changes until it is disposed of, starting with those that were not yet applied to the server
   * `sinceMs` ago; if it does not know those, reports that everything may have changed.
   */
  follow(server: string, listener: ChangeListener, options: FollowOptions): AsyncDisposable;
}

/** Bounds of {@linkcode ChangeFollower.follow}. */
export interface FollowOptions {
  /** Time since the last announcement. `Infinity`: there was none. */
  readonly sinceMs: number;
  /** Interval between questions. */
  readonly everyMs: number;
  /** True while the server cannot be reached, so that changes cannot be applied to it. */
  readonly isAway: () => boolean;
}

/** The sink of a {@linkcode ChangeFollower}. */
export interface ChangeListener {
  /** Entries with these keys and tags have changed. */
  changed(names: InvalidatedNames): void;
  /** Everything may have changed. */
  flushed(): void;
  /** Everything committed up to `sentAtMs` (monotonic) has been reported. */
  alive(sentAtMs: number): void;
}

/** Names that a write has invalidated. */
export interface InvalidatedNames {
  /** Keys of single entries. */
  readonly keys: readonly string[];
  /** Tags. */
  readonly tags: readonly string[];
}

/** A write that its own process invalidates. Dispose of it when the write is over, whatever its outcome. */
export interface OwnWrite extends Disposable {
  /**
   * The mark that the write's transaction carries; for Postgres, `set_config('lookaside.writer', mark, TRUE)`.
   * Empty: not needed.
   */
  readonly mark: string;
  /**
   * Reports that the write is committed and that all of these names were invalidated after it, in Redis too. The
   * source still applies the write's other changes, and all of them if this is not called.
   */
  invalidated(names: InvalidatedNames): void;
}

/** A request to catch up with the changes that were committed before it. */
export interface CatchUpRequest {
  /** The `name` of one of the servers. */
  readonly server: string;
  /**
   * True if recently applied changes must be applied again: the server restarted or is another one, and may have
   * lost them.
   */
  readonly replay: boolean;
}

/** A table, as a program uses it. */
export interface TableUse {
  /** Its schema. */
  readonly schema: string;
  /** Its name. */
  readonly name: string;
  /** The columns of its key, in the order in which rows are named. Empty: rows have no names. */
  readonly key: readonly string[];
  /** The columns whose values distinguish its lists. */
  readonly columns: readonly string[];
}

/** A table whose changes are reported. */
export interface WatchedTable {
  /** The columns whose values are reported. */
  readonly columns: readonly string[];
  /**
   * The columns whose changes are reported, with their types: `integer`, `uuid`, `boolean`, `date`, `char` or
   * `text` if equal values have the same text, otherwise `other`.
   */
  readonly types: ReadonlyMap<string, string>;
}

/** Figures of a source of changes. */
export interface ChangesStats {
  /** Changes that this process has applied. */
  readonly applied: number;
  /** Changes that it has applied again. */
  readonly replayed: number;
  /** Changes left to apply. */
  readonly backlog: number;
  /** Age in milliseconds of the oldest change left to apply, 0 without one. */
  readonly lagMs: number;
  /** Time in milliseconds for which a write has been seen neither committed nor rolled back. */
  readonly heldMs: number;
  /** Size of the stored changes, applied ones included. */
  readonly bytes: number;
}

/** A write without a mark. */
const UNMARKED: OwnWrite = {
  mark: "",
  invalidated: () => undefined,
  [Symbol.dispose]: () => undefined,
};

/** The changes of a cache without a source of changes. */
export const NO_CHANGES: Changes = {
  caughtUp: () => Promise.resolve(),
  catchUp: () => Promise.resolve(),
  beginWrite: () => Promise.resolve(UNMARKED),
  watched: ({ name }) =>
    Promise.reject(
      new TypeError(`Cannot watch ${name}: the cache was made without \`changes\`, or is off`),
    ),
  stats: () =>
    Promise.resolve({ applied: 0, replayed: 0, backlog: 0, lagMs: 0, heldMs: 0, bytes: 0 }),
  [Symbol.asyncDispose]: () => Promise.resolve(),
};
