/**
 * The port to whatever tells a cache what changed in the source of truth: `@lookaside/changes` for
 * Postgres, and room for others.
 *
 * @module
 */
import type { Clock } from "./runtime.ts";

/**
 * The fate of an invalidation: `applied`, or `pending` because Redis could not be reached. A pending one
 * already holds in this process, which reads nothing from Redis until it has been applied; it is tried
 * again until then.
 */
export type Invalidation = "applied" | "pending";

/** A source of changes, given to a cache as its option `changes`. */
export interface ChangeSource {
  /** Begins to apply what changes to the servers of a cache. Its constructor calls this once. */
  attach(cache: ChangedCache): Changes;
}

/** A cache, as a {@linkcode ChangeSource} sees it. */
export interface ChangedCache {
  /** Its servers: one, but for a ring. */
  readonly servers: readonly CacheServer[];
  /** Sets its entries apart from those of other caches on the same servers. */
  readonly prefix: string;
  /** `process`: it ends with this process. `ring`: its servers are told one by one, and may be others. */
  readonly kind: "process" | "shared" | "ring";
  /** The time that it goes by. */
  readonly clock: Clock;
  /** Resolves once the memory of this process has nothing that a server had announced as changed. */
  followed(): Promise<void>;
}

/**
 * One of the servers of a cache; all but a ring have one. It can be told what changed by itself, so that
 * one that is away does not hold up the others.
 */
export interface CacheServer {
  /** The same in every process: `host:port` in a ring, else what the URL names. Empty without one. */
  readonly name: string;
  /** As `Cache.delete`, on this server, whichever owns the keys: it may have owned them before. */
  delete(...keys: string[]): Promise<Invalidation>;
  /** As `Cache.invalidateTags`, for the entries of this server. */
  invalidateTags(...tags: string[]): Promise<Invalidation>;
  /** As `Cache.clear`, for the entries of this server. */
  clear(): Promise<Invalidation>;
}

/** The changes that a cache is told of. */
export interface Changes extends AsyncDisposable {
  /**
   * Resolves once every change that was committed before the call has been applied: a read that begins
   * then sees it, whoever wrote it.
   *
   * @throws {Error} The source of truth cannot say.
   */
  caughtUp(): Promise<void>;
  /** Does the same for one server. The cache calls it before it believes that server. */
  catchUp(request: CatchUpRequest): Promise<void>;
  /**
   * Begins a write whose invalidation the caller sees to: the source leaves it alone then, and what was filled
   * behind it stays. Never rejects because of the source.
   */
  beginWrite(): Promise<OwnWrite>;
  /**
   * Resolves once it is known that changes of a table are told, by this key and with these columns. Asked
   * again, it answers what is known by then.
   *
   * @throws {TypeError} They are not: there is no such table or column, or nobody may watch it.
   */
  watched(table: TableUse): Promise<WatchedTable>;
  /** Counts what was applied, and looks at what is left to apply. */
  stats(): Promise<ChangesStats>;
  /** Names the source of truth, as no other one is named. Absent: nobody tells it from another. */
  source?(): Promise<string>;
  /** Lets memory stand in for servers that are away. Absent: reads go to the source meanwhile. */
  readonly follower?: ChangeFollower;
}

/**
 * A source of changes that can tell one process what changes without its servers, which may be away. Part of
 * {@linkcode Changes} where it can.
 */
export interface ChangeFollower {
  /** Whether it tells of every change that entries with exactly these tags depend on. */
  covers(tags: readonly string[]): boolean;
  /**
   * Tells from now on what changes, until it is disposed of, and first what was not applied to the server
   * `sinceMs` ago; that everything may have changed, if it does not know.
   */
  follow(server: string, listener: ChangeListener, options: FollowOptions): AsyncDisposable;
}

/** Bounds of {@linkcode ChangeFollower.follow}. */
export interface FollowOptions {
  /** For how long nothing has been announced. `Infinity`: nothing ever was. */
  readonly sinceMs: number;
  /** How often to ask. */
  readonly everyMs: number;
}

/** The sink of a {@linkcode ChangeFollower}. */
export interface ChangeListener {
  /** Entries with these keys and tags have changed. */
  changed(names: { readonly keys: readonly string[]; readonly tags: readonly string[] }): void;
  /** Everything may have changed. */
  flushed(): void;
  /** All that was committed up to `sentAtMs` (monotonic) has been told. */
  alive(sentAtMs: number): void;
}

/** Names that a write has invalidated. */
export interface InvalidatedNames {
  /** Keys of single entries. */
  readonly keys: readonly string[];
  /** Tags. */
  readonly tags: readonly string[];
}

/** A write that its own process invalidates. Disposed of once it is over, however it ended. */
export interface OwnWrite extends Disposable {
  /**
   * The mark that the write carries, in its transaction: for Postgres
   * `set_config('lookaside.writer', mark, TRUE)`. Empty: nobody asks for it.
   */
  readonly mark: string;
  /**
   * Notes that the write is committed, and that all of these names were invalidated behind it, in Redis too.
   * The source is left what it changed besides, and all of it where this is not called.
   */
  invalidated(names: InvalidatedNames): void;
}

/** The request to catch up with the changes that were committed before it. */
export interface CatchUpRequest {
  /** The `name` of one of the servers. */
  readonly server: string;
  /**
   * Whether what was applied lately has to be applied again: the server is another one, or has restarted,
   * and may have lost it.
   */
  readonly replay: boolean;
}

/** A table, as a program uses it. */
export interface TableUse {
  /** Its schema. */
  readonly schema: string;
  /** Its name. */
  readonly name: string;
  /** The columns of its key, in the order in which rows are named; none: no row is. */
  readonly key: readonly string[];
  /** The columns whose values tell its lists apart. */
  readonly columns: readonly string[];
}

/** A table whose changes are told. */
export interface WatchedTable {
  /** The columns whose values are told. */
  readonly columns: readonly string[];
  /**
   * The columns whose changes are told, and their types: `integer`, `uuid`, `boolean`, `date`, `char` or
   * `text` where equal values have the same text, else `other`.
   */
  readonly types: ReadonlyMap<string, string>;
}

/** Figures of a source of changes. */
export interface ChangesStats {
  /** Changes that this process has applied. */
  readonly applied: number;
  /** Changes that it has applied again. */
  readonly replayed: number;
  /** Changes that are left to apply. */
  readonly backlog: number;
  /** Age of the oldest of them in milliseconds, 0 without one. */
  readonly lagMs: number;
  /** How long a write has been seen to be neither committed nor rolled back, in milliseconds. */
  readonly heldMs: number;
  /** Size of what is kept of changes, those that are applied among them. */
  readonly bytes: number;
}

/** A write that nobody asks for. */
const UNMARKED: OwnWrite = {
  mark: "",
  invalidated: () => undefined,
  [Symbol.dispose]: () => undefined,
};

/** The changes of a cache that nobody tells any. */
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
