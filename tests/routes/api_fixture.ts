import { Cache, type Changes, type Invalidation, type Jsonify, Lookup } from "../../cache/mod.ts";
import type { WriteOptions } from "../../db/table_rows.ts";
import type { Key, ListOptions, Row, Written } from "../../db/table_statements.ts";
import type { Column, PlainType, TableShape } from "../../db/table_shape.ts";
import { type AppDependencies, createApp, type ErrorContext } from "../../routes/app.ts";
import { type Rows, Table } from "../../routes/table.ts";
import { users as declaration } from "../../routes/users.ts";
import { InvalidationLog } from "../../cache/dashboard/mod.ts";
import { type FakeClock, FakeRuntime } from "../support/fake_runtime.ts";

/** When every user of a {@linkcode FakeUsers} was made. */
export const CREATED_AT = "2026-01-02T03:04:05.678Z";

/** A row of users. */
type User = Row & { readonly id: number };

const text = (name: string, plain?: PlainType): Column => ({
  name,
  type: "text",
  plain,
  max: undefined,
  labels: undefined,
  expression: name,
});

const columns: readonly Column[] = [
  { ...text("id", "integer"), type: "integer", max: 2n ** 31n - 1n },
  ...[text("name", "text"), text("email", "text"), text("bio", "text"), text("created_at")],
];

/** Users 1 to 30 in memory. Notes each call, and fails each one while there is a `failure`. */
export class FakeUsers implements Rows {
  /** The methods that were called, in order. */
  readonly calls: string[] = [];
  /** What every method rejects with. */
  failure: Error | undefined;
  readonly #rows = new Map<number, User>();

  constructor() {
    for (let id = 1; id <= 30; id++) this.#rows.set(id, userRow(id));
  }

  shape(): Promise<TableShape> {
    return Promise.resolve({
      from: "users",
      key: columns.slice(0, 1),
      advice: [],
      types: new Map(),
      constraints: new Map(),
      columns: new Map(columns.map((column) => [column.name, column])),
    });
  }

  find(key: Key): Promise<Row | undefined> {
    return this.#called("find", () => this.#rows.get(idOf(key)));
  }

  findMarked(key: Key): Promise<{ row: Row; mark: string } | undefined> {
    return this.#called("findMarked", () => {
      const row = this.#rows.get(idOf(key));
      return row && { row, mark: JSON.stringify(row) };
    });
  }

  findMany(keys: readonly Key[]): Promise<Map<string, Row>> {
    return this.#called("findMany", () =>
      new Map(keys.flatMap((key) => {
        const user = this.#rows.get(idOf(key));
        return user === undefined ? [] : [[`${user.id}`, user] as const];
      })));
  }

  list({ offset = 0, limit, after }: ListOptions): Promise<Row[]> {
    return this.#called(after === undefined ? "list" : "listAfter", () => {
      const rows = [...this.#rows.values()].filter(({ id }) => id > idOf(after ?? ["0"]));
      return rows.slice(offset, offset + limit);
    });
  }

  create(fields: Row): Promise<Written> {
    return this.#called("create", () => this.#put({ ...userRow(this.#rows.size + 1), ...fields }));
  }

  replace(key: Key, fields: Row, { mark }: WriteOptions = {}): Promise<Written | undefined> {
    return this.#called("replace", () => this.#overwrite(key, fields, mark));
  }

  update(key: Key, changes: Row, { mark }: WriteOptions = {}): Promise<Written | undefined> {
    return this.#called("update", () => this.#overwrite(key, changes, mark));
  }

  remove(key: Key, { mark }: WriteOptions = {}): Promise<Written | undefined> {
    return this.#called("remove", () => {
      const user = this.#marked(key, mark);
      this.#rows.delete(user?.id ?? 0);
      return user && { row: user, touched: [] };
    });
  }

  #marked(key: Key, mark: string | undefined): User | undefined {
    const user = this.#rows.get(idOf(key));
    return mark === undefined || mark === JSON.stringify(user) ? user : undefined;
  }

  #overwrite(key: Key, fields: Row, mark: string | undefined): Written | undefined {
    const user = this.#marked(key, mark);
    return user && this.#put({ ...user, ...fields });
  }

  #put(user: User): Written {
    this.#rows.set(user.id, user);
    return { row: user, touched: [] };
  }

  #called<T>(name: string, work: () => T): Promise<T> {
    this.calls.push(name);
    return this.failure === undefined ? Promise.resolve(work()) : Promise.reject(this.failure);
  }
}

function idOf([id]: Key): number {
  return Number(id);
}

/** A real cache in memory that notes each call, with answers that a test can put in its place. */
export class WatchedCache {
  /** The changes that are reported to it. */
  readonly changes: Changes;
  /** The calls, each with its keys or tags, in order. */
  readonly calls: string[] = [];
  /** What reads of one key answer instead. */
  lookup: Lookup | undefined;
  /** How invalidations end instead. */
  invalidation: Invalidation | Error = "applied";
  /** What `storeInfo` answers. */
  info: { info: string; keyspace: string; totalKeys: number } | undefined;
  readonly #cache: Cache;

  constructor(cache: Cache, changes: Partial<Changes> = {}) {
    this.#cache = cache;
    this.changes = { ...cache.changes, ...changes };
  }

  getOrLoad: Cache["getOrLoad"] = <T, V = Jsonify<T>>(
    ...args: Parameters<typeof Cache.prototype.getOrLoad<T, V>>
  ) => {
    this.calls.push(`getOrLoad ${args[0]}`);
    if (this.lookup !== undefined) {
      const { source, text, freshUntilMs, stale } = this.lookup;
      return Promise.resolve(new Lookup<NoInfer<V>>(source, text, freshUntilMs, stale));
    }
    return this.#cache.getOrLoad<T, V>(...args);
  };

  getFromMemory<T = unknown>(key: string): Lookup<Jsonify<T>> | undefined {
    if (this.lookup !== undefined) return undefined;
    const held = this.#cache.getFromMemory<T>(key);
    if (held !== undefined) this.calls.push(`getFromMemory ${key}`);
    return held;
  }

  getOrLoadMany: Cache["getOrLoadMany"] = <T, V = Jsonify<T>>(
    ...args: Parameters<typeof Cache.prototype.getOrLoadMany<T, V>>
  ) => {
    this.calls.push(`getOrLoadMany ${args[0].join(" ")}`);
    return this.#cache.getOrLoadMany<T, V>(...args);
  };

  delete = (...keys: string[]): Promise<Invalidation> =>
    this.#invalidated(`delete ${keys.join(" ")}`, () => this.#cache.delete(...keys));

  invalidateTags = (...tags: string[]): Promise<Invalidation> =>
    this.#invalidated(
      `invalidateTags ${tags.join(" ")}`,
      () => this.#cache.invalidateTags(...tags),
    );

  clear = (): Promise<Invalidation> => this.#invalidated("clear", () => this.#cache.clear());

  stats: Cache["stats"] = () => this.#cache.stats();

  storeInfo: Cache["storeInfo"] = () => Promise.resolve(this.info);

  inspect: Cache["inspect"] = (key) => this.#cache.inspect(key);

  popular: Cache["popular"] = (count) => this.#cache.popular(count);

  async #invalidated(call: string, work: () => Promise<Invalidation>): Promise<Invalidation> {
    this.calls.push(call);
    await work();
    if (this.invalidation instanceof Error) throw this.invalidation;
    return this.invalidation;
  }
}

/** The API over fakes, and what a test looks at. */
export interface Api extends AsyncDisposable {
  readonly users: FakeUsers;
  readonly cache: WatchedCache;
  readonly clock: FakeClock;
  /** What was reported as unexpected. */
  readonly errors: { readonly error: unknown; readonly context: ErrorContext }[];
  /** What is shown of invalidations. */
  readonly invalidations: InvalidationLog;
  /** Begins the end of the service. */
  stop(): void;
  /** Every route, as it was added. */
  readonly routes: readonly { readonly method: string; readonly path: string }[];
  /** Sends a request. A body that is no string is sent as JSON. */
  send(path: string, init?: SendInit): Promise<Response>;
  /** Sends a request as it is, and what the server would tell of its connection. */
  fetch(request: Request, connection?: unknown): Response | Promise<Response>;
}

/** A request. */
export interface SendInit {
  readonly method?: string;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

/** What a test has instead of fakes. */
export type ApiChanges = Partial<AppDependencies> & { readonly changes?: Partial<Changes> };

/** Makes the API over fakes. */
export function createApi({ changes, ...others }: ApiChanges = {}): Api {
  const runtime = new FakeRuntime();
  const engine = new Cache({ url: "memory:", jitterRatio: 0, ttlMs: 300_000, runtime });
  const users = new FakeUsers();
  const cache = new WatchedCache(engine, changes);
  const errors: Api["errors"] = [];
  const invalidations = new InvalidationLog(runtime.clock);
  const stopping = new AbortController();
  const app = createApp({
    cache,
    tables: [new Table(declaration, users)],
    clock: runtime.clock,
    listTtlMs: 60_000,
    access: { adminTokens: [], open: "on" },
    warm: () => Promise.resolve(0),
    invalidations,
    stopping: stopping.signal,
    database: { pool: () => ({ connectionsMax: 20, inUse: 3, waiting: 1 }) },
    ready: () => true,
    onError: (error, context) => void errors.push({ error, context }),
    ...others,
  });
  return {
    users,
    cache,
    clock: runtime.clock,
    errors,
    invalidations,
    stop: () => stopping.abort(),
    routes: app.routes,
    async send(path, { method = "GET", body, headers = {} } = {}) {
      if (body === undefined) return await app.request(path, { method, headers });
      return await app.request(path, {
        method,
        headers: { "content-type": "application/json", ...headers },
        body: [String, Uint8Array, ReadableStream].some((type) => Object(body) instanceof type)
          ? body as BodyInit
          : JSON.stringify(body),
      });
    },
    fetch: (request, connection) => app.fetch(request, connection),
    async [Symbol.asyncDispose]() {
      stopping.abort();
      await engine.close();
    },
  };
}

/** A user as the fake database holds it. */
function userRow(id: number): User {
  return {
    id,
    name: `User ${id}`,
    email: `user${id}@example.com`,
    bio: `Bio ${id}`,
    created_at: CREATED_AT,
  };
}

/** A user as the API answers it. */
export function userJson(id: number): Record<string, unknown> {
  return userRow(id);
}
