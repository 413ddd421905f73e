/**
 * The servers for faults: instances of the service in separate processes, on one Postgres and one Redis, each
 * behind a proxy.
 *
 * @module
 */
import postgres from "postgres";
import { freePort } from "../../tools/servers/free_port.ts";
import { type PostgresServer, startPostgres } from "../../tools/servers/postgres_server.ts";
import { QueryCounter } from "../../tests/support/query_counter.ts";
import { type RedisServer, startRedis } from "../../tools/servers/redis_server.ts";
import { createSeededDatabase } from "../../tests/support/seeded_database.ts";
import { type Service, type ServiceOptions, startService } from "../../tools/servers/service.ts";
import { startTcpProxy, type TcpProxy } from "../../tools/servers/tcp_proxy.ts";

/** Users 1 to this are read and written. */
export const KEYS_COUNT = 200;
/** Time for which memory is trusted without a sign of life. */
export const MEMORY_LEASE_MS = 1_000;
/** Longest duration of a command. */
export const COMMAND_TIMEOUT_MS = 200;
/** Connections that each instance may open for its statements. One more is for `LISTEN`. */
const POOL_MAX = 10;
/** The user of the service in Redis and in Postgres, with limited rights. */
export const APP_USER = "app";
const APP_PASSWORD = "first";

/** A receiver of requests. */
export interface Target {
  /** `http://127.0.0.1:{port}`. */
  readonly url: string;
  fetch(path: string, init?: RequestInit & { client?: Deno.HttpClient }): Promise<Response>;
}

/** One instance of the service, with the number of its current life. */
export interface Instance {
  readonly target: Target;
  /** Its process, unless it runs in this process. */
  readonly service?: Service;
  /** The inspector's port of {@linkcode service}, if there is one. */
  readonly inspectorPort?: number;
  life: number;
}

/** The servers of the cache, and what can be done to them. */
export interface Backend extends AsyncDisposable {
  /** The URL for the service. */
  readonly url: string;
  /** Its servers, if the URL does not name them. */
  readonly servers?: readonly RedisServer[];
}

/** One Redis behind a proxy. */
export interface Standalone extends Backend {
  readonly server: RedisServer;
  readonly proxy: TcpProxy;
  /** Changes the password that the service knows, or restores it, and closes its connections. */
  changePassword(to: "another" | "first"): Promise<void>;
}

/** Everything that one row of the table needs. */
export interface World<B extends Backend = Backend> extends AsyncDisposable {
  readonly backend: B;
  readonly postgres: PostgresServer;
  readonly postgresProxy: TcpProxy;
  /** Counts the statements that pass that proxy. */
  readonly queries: QueryCounter;
  /** Runs statements as the superuser, past the service and the proxy. */
  readonly sql: postgres.Sql;
  readonly instances: readonly Instance[];
}

/** Options for making a world. */
export interface WorldOptions<B extends Backend> {
  /** Starts the backend. */
  readonly backend: () => Promise<B>;
  /** Starts the instances. Default: two of the real service, each in a process of its own. */
  readonly instances?: (env: Record<string, string>) => Promise<Instance & AsyncDisposable>[];
  /** Configuration in addition to, or instead of, that of a world. */
  readonly env?: Readonly<Record<string, string>>;
}

export async function startWorld<B extends Backend>(options: WorldOptions<B>): Promise<World<B>> {
  await using stack = new AsyncDisposableStack();
  const backend = stack.use(await options.backend());
  // Acknowledged writes are checked afterwards, so a commit must survive the end of the server.
  const server = stack.use(await startPostgres({ settings: { synchronous_commit: "on" } }));
  const database = await createSeededDatabase(KEYS_COUNT, server.url);
  const queries = new QueryCounter();
  const postgresProxy = stack.use(startTcpProxy(server.port, { observe: queries.observe }));
  const sql = postgres(database.url, { max: 2, onnotice: () => undefined, backoff: () => 0.05 });
  stack.defer(() => sql.end({ timeout: 1 }));
  await sql.unsafe(`
    CREATE ROLE ${APP_USER} LOGIN;
    GRANT ALL ON ALL TABLES IN SCHEMA public TO ${APP_USER};
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO ${APP_USER};
    SELECT lookaside.admit('${APP_USER}');
  `);
  const url = new URL(database.url);
  url.port = String(postgresProxy.port);
  url.username = APP_USER;
  const env = {
    REDIS_URL: backend.url,
    REDIS_NODES: (backend.servers ?? []).map(({ port }) => `127.0.0.1:${port}`).join(","),
    DATABASE_URL: url.href,
    DATABASE_POOL_MAX: String(POOL_MAX),
    REDIS_COMMAND_TIMEOUT_MS: String(COMMAND_TIMEOUT_MS),
    LOG_LEVEL: "fatal",
    // Short lives, so that entries also expire and are refreshed in a short run.
    CACHE_TTL_MS: "5000",
    CACHE_LIST_TTL_MS: "2000",
    CACHE_MEMORY_LEASE_MS: String(MEMORY_LEASE_MS),
    CHANGES_CACHE_NAME: "faults",
    ...options.env,
  };
  const starting = (options.instances ?? startTwo)(env);
  const instances = await Promise.all(starting.map(async (one) => stack.use(await one)));
  const owned = stack.move();
  return {
    backend,
    postgres: server,
    postgresProxy,
    queries,
    sql,
    instances,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Starts one Redis behind a proxy. */
export async function startStandalone(): Promise<Standalone> {
  await using stack = new AsyncDisposableStack();
  const user = ["--user", APP_USER, "on", `>${APP_PASSWORD}`, "~*", "&*", "+@all"];
  const args = [...user, "--enable-debug-command", "local"];
  const server = stack.use(await startRedis({ appendOnly: true, args }));
  const proxy = stack.use(startTcpProxy(server.port));
  const owned = stack.move();
  return {
    server,
    proxy,
    url: `redis://${APP_USER}:${APP_PASSWORD}@127.0.0.1:${proxy.port}`,
    async changePassword(to) {
      await server.cli("ACL", "SETUSER", APP_USER, "resetpass", `>${to}`);
      await server.cli("CLIENT", "KILL", "USER", APP_USER);
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Limit of statements that run at once in Postgres: that of each instance, and its `LISTEN`. */
export function queriesBound({ instances }: World): number {
  return instances.length * (POOL_MAX + 1);
}

function startTwo(env: Record<string, string>): Promise<Instance & AsyncDisposable>[] {
  return [startOne({ env }), startOne({ env })];
}

/** Two instances of the real service, each in a separate process with an inspector. */
export function startTwoInspected(
  env: Record<string, string>,
): Promise<Instance & AsyncDisposable>[] {
  return [freePort(), freePort()].map((inspectorPort) => startOne({ env, inspectorPort }));
}

async function startOne(options: ServiceOptions): Promise<Instance & AsyncDisposable> {
  const service = await startService(options);
  const { inspectorPort } = options;
  return {
    target: service,
    service,
    life: 0,
    ...(inspectorPort === undefined ? {} : { inspectorPort }),
    [Symbol.asyncDispose]: () => disposeOf(service),
  };
}

/** Kills it: other tests check an orderly end. */
function disposeOf(service: Service): Promise<void> {
  return service[Symbol.asyncDispose]();
}
