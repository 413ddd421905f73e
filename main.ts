/**
 * The service: makes the cache, the database and the app from the configuration, serves, and on
 * SIGTERM or SIGINT finishes what runs before it ends.
 *
 * @module
 */
import type { Logger } from "@logtape/logtape";
import { connect } from "@db/driver";
import { Audit } from "./changes/audit.ts";
import { Cache, systemRuntime } from "./cache/mod.ts";
import { readCa } from "./server/certificates.ts";
import {
  type Config,
  ConfigError,
  isLoopback,
  parseConfig,
  readEnvironment,
} from "./server/config.ts";
import { adviceOn } from "./db/advice.ts";
import { Users } from "./db/users.ts";
import { Listener } from "./server/listener.ts";
import {
  cacheEventLogger,
  configureLogging,
  lookupLogger,
  messageOf,
  relayErrorLogger,
} from "./server/logging.ts";
import { RateLimits } from "./server/rate_limits.ts";
import { redactUrl } from "./server/redact_url.ts";
import { Relays } from "./changes/relays.ts";
import { createApp, type ErrorListener, type Limits } from "./routes/app.ts";
import { InvalidationLog } from "./routes/invalidation_log.ts";
import { loadUser, warmUsers } from "./routes/users.ts";
import { Worker } from "./server/worker.ts";

/** How long the database may take to prove that users can be read. */
const READINESS_TIMEOUT_MS = 1_000;

/** How long the service waits for a Redis that does not even refuse before it is ready without. */
const REDIS_START_MS = 5_000;

/** How long the cache and the database may take to close. */
const CLOSE_TIMEOUT_MS = 5_000;

/** How long the process may take to end by itself once all is closed. */
const END_TIMEOUT_MS = 1_000;

const STOP_SIGNALS = ["SIGTERM", "SIGINT"] as const;

/** How many users `POST /cache/warm` reads. */
const WARM_COUNT = 100;

/** The Redis URL of a cache that is this process's own. */
const IN_MEMORY = "memory:";

type Handler = Deno.ServeHandler;

/** What keeps the service from serving until somebody changes it: the message is all there is to say. */
class StartError extends Error {
  override readonly name = "StartError";
}

/** Runs the service until it is told to stop. */
async function serve(config: Config, logger: Logger): Promise<void> {
  const stopping = new AbortController();
  const stop = () => stopping.abort();
  await using resources = new AsyncDisposableStack();
  for (const signal of STOP_SIGNALS) {
    Deno.addSignalListener(signal, stop);
    resources.defer(() => Deno.removeSignalListener(signal, stop));
  }
  const worker = config.workers > 1 ? resources.use(new Worker(stop)) : undefined;
  const tracing = config.tracing ? await import("./server/tracing.ts") : undefined;
  // Closed last: what the cache still loads in the background needs it.
  const connected = resources.use(
    connect({ ...config.database, ...await readCa(config.database.caFile) }),
  );
  const database = tracing?.traceDatabase(connected) ?? connected;
  const trusted = await readCa(config.cache.caFile);
  const redisTried = Promise.withResolvers<void>();
  const logEvent = cacheEventLogger(logger);
  // What the cache asks of the feed, it asks once it is connected: later than both are made.
  const cache: Cache = resources.use(
    new (tracing?.TracedCache ?? Cache)({
      ...trusted,
      ...config.cache,
      catchUp: (request) => changes.catchUp(request),
      // That its connections end is no news while it closes.
      onEvent: (event) => {
        const refused = event.type === "redis-error" && event.command === "connect";
        if (event.type === "caught-up" || refused) redisTried.resolve();
        if (!resources.disposed) logEvent(event);
      },
      ...(logger.isEnabledFor("debug") ? { onLookup: lookupLogger(logger) } : {}),
    }),
  );
  const invalidations = new InvalidationLog(systemRuntime.clock);
  const changes = resources.use(
    new Relays(cache.servers, database, {
      ...config.changes,
      nameOf: (server) => cacheName(config, server),
      cacheEnds: config.cache.url === IN_MEMORY,
      onInvalidated: (names) => invalidations.note("change feed", names),
      onError: relayErrorLogger(logger, systemRuntime.clock),
    }),
  );
  // With the cache off there is nothing to invalidate here, and others must not miss what they should.
  if (config.cache.enabled) changes.start();
  const inUse = config.cache.enabled && config.cache.url !== IN_MEMORY;
  const redisWaited = inUse ? within(REDIS_START_MS, redisTried.promise) : undefined;
  // What was committed before the start would else invalidate what the first requests have filled.
  const settled = async () => {
    if (config.cache.enabled) await (redisWaited ?? changes.catchUpAll());
  };
  const users = new Users(database);
  const audit = config.auditRatio === 0 ? undefined : resources.use(
    new Audit({
      ratio: config.auditRatio,
      propagationMs: config.cache.memoryLeaseMs + config.changes.pollMs,
      cache,
      load: (key) => loadUser(users, key),
      onStale: (key) => logger.error("the cache answered an old {key}", { key }),
      onError: (error) => logger.warn("Cannot audit: {reason}", { reason: messageOf(error) }),
      clock: systemRuntime.clock,
      random: systemRuntime.random,
    }),
  );
  const onError: ErrorListener = (error, { method, path, status }) => {
    const record = { method, path, status, reason: messageOf(error) };
    if (status === 503) logger.warn("{status} {method} {path}: {reason}", record);
    else logger.error("{status} {method} {path}: {reason}", { ...record, error });
  };
  const ready = readiness(users, { stopping: stopping.signal, settled });
  const app = createApp({
    cache,
    users,
    clock: systemRuntime.clock,
    listTtlMs: config.http.listTtlMs,
    access: {
      adminTokens: config.http.adminTokens,
      open: config.http.adminOpen,
    },
    limits: limitsOf(
      config.http,
      resources.use(
        new RateLimits({
          ...config.cache,
          ...trusted,
          url: config.cache.enabled ? config.cache.url : IN_MEMORY,
        }),
      ),
    ),
    corsOrigins: config.http.corsOrigins,
    database,
    changes,
    invalidations,
    stopping: stopping.signal,
    ...(audit === undefined ? {} : { audit }),
    warm: () => warmUsers(cache, users, WARM_COUNT),
    ready,
    onError,
  });
  reportAccess(config.http, logger);
  const server = listen(config, worker?.around(app.fetch) ?? app.fetch, logger);
  let refusal: StartError | undefined;
  const asked = refusalOf(users).then((error) => {
    refusal = error;
    if (error !== undefined) stop();
  });
  if (worker !== undefined) {
    // A supervisor gives up where a process ends before it tells this, and else starts another.
    void within(READINESS_TIMEOUT_MS, asked).then(() => refusal ?? worker.listening());
    void worker.announce(ready);
  }

  if (config.warmCount > 0) void warm(warmUsers(cache, users, config.warmCount), logger);

  await untilAborted(stopping.signal);
  logger.info("stopping");
  // It answers what it has accepted and then closes. Asking clients to reconnect meanwhile would only
  // lose the requests on connections that are accepted at the end.
  if (!await within(config.http.shutdownTimeoutMs, server.shutdown())) {
    logger.warn("stopped with requests still running");
  }
  if (!await within(CLOSE_TIMEOUT_MS, resources.disposeAsync())) {
    logger.warn("stopped before every connection was closed");
  }
  logger.info("stopped");
  if (refusal !== undefined) throw refusal;
}

/**
 * Why users can never be read as things are: a wrong password, a database or table that is missing.
 * `undefined`: they can be read, or cannot for a reason that passes by itself.
 */
async function refusalOf(users: Users): Promise<StartError | undefined> {
  try {
    await users.list({ page: 1, limit: 1 });
    return undefined;
  } catch (error) {
    const advice = adviceOn(error);
    if (advice === undefined) return undefined;
    return new StartError(`Cannot serve: ${messageOf(error)}. ${advice}`, { cause: error });
  }
}

function limitsOf(http: Config["http"], limits: RateLimits): Limits {
  const { adminRateLimit, clientRateLimit, trustedProxies } = http;
  return {
    ...(adminRateLimit === 0 ? {} : { admin: limits.perMinute("admin", adminRateLimit) }),
    ...(clientRateLimit === 0 ? {} : { clients: limits.perMinute("client", clientRateLimit) }),
    trustedProxies,
  };
}

/** Says who may write, where that is not only this machine or whoever has a token. */
function reportAccess({ hostname, adminTokens, adminOpen }: Config["http"], logger: Logger): void {
  if (adminTokens.length > 0) return;
  if (!adminOpen) logger.warn("writes, /cache and /metrics are closed: there is no ADMIN_TOKEN");
  else if (!isLoopback(hostname)) logger.warn("everybody may write: ADMIN_OPEN is on");
}

/**
 * What a server of this cache is called in the database: the same in every instance that uses it, in a
 * ring of whatever others. Without the key version, for an invalidation covers the neighbouring ones.
 */
function cacheName({ cache: { url, prefix }, changes }: Config, server: string): string {
  if (url === IN_MEMORY) return `${IN_MEMORY}${crypto.randomUUID()}`;
  if (changes.cacheName === undefined) return `redis:${server}/${prefix}`;
  return url.includes("-ring:") ? `${changes.cacheName}/${server}` : changes.cacheName;
}

/**
 * Whether requests should be sent here: from the first time that users can be read until the signal
 * to stop. An outage of Postgres changes nothing, or what the cache still serves would be lost too.
 * A cache that is there is waited for, so that the first requests find it.
 */
function readiness(
  users: Users,
  { stopping, settled }: { stopping: AbortSignal; settled: () => Promise<void> },
): () => Promise<boolean> {
  let hasBeenReady = false;
  return async () => {
    if (!hasBeenReady && !stopping.aborted) {
      const read = users.list({ page: 1, limit: 1 });
      hasBeenReady = await within(READINESS_TIMEOUT_MS, Promise.all([read, settled()]));
    }
    return hasBeenReady && !stopping.aborted;
  };
}

/** Beside the first requests, not before them: a cold start must not wait for a warm one. */
async function warm(work: Promise<number>, logger: Logger): Promise<void> {
  try {
    logger.info("warmed {count} users", { count: await work });
  } catch (error) {
    logger.warn("Cannot warm the cache: {reason}", { reason: messageOf(error) });
  }
}

function listen(config: Config, handler: Handler, logger: Logger): Listener {
  try {
    return listenerOf(config, handler, logger);
  } catch (error) {
    const address = `${config.http.hostname}:${config.http.port}`;
    const why = error instanceof Deno.errors.AddrInUse ? "the port is in use" : messageOf(error);
    throw new StartError(`Cannot listen at ${address}: ${why}`, { cause: error });
  }
}

function listenerOf(config: Config, handler: Handler, logger: Logger): Listener {
  return new Listener({
    hostname: config.http.hostname,
    port: config.http.port,
    reusePort: config.workers > 1,
    onListen: ({ hostname, port }) =>
      logger.info("listening on {url}", {
        url: `http://${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`,
        redis: redactUrl(config.cache.url),
        postgres: redactUrl(config.database.url),
        cache: config.cache.enabled,
      }),
    onError: (error) =>
      logger.error("Cannot accept connections: {reason}; idle ones are closed", {
        reason: messageOf(error),
      }),
  }, handler);
}

/** Whether `work` is done in time. A failure is passed on. */
async function within(timeoutMs: number, work: Promise<unknown>): Promise<boolean> {
  const late = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => late.resolve(false), timeoutMs);
  try {
    return await Promise.race([work.then(() => true), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** A defect leaves the process in a state nobody has thought about: say so, and let it be restarted. */
function endOnDefects(logger: Logger): void {
  const end = (event: Event, error: unknown) => {
    event.preventDefault();
    logger.fatal("ended by a defect: {reason}", { reason: messageOf(error), error });
    Deno.exit(1);
  };
  globalThis.addEventListener("unhandledrejection", (event) => end(event, event.reason));
  globalThis.addEventListener("error", (event) => end(event, event.error));
}

async function main(): Promise<number> {
  let config: Config;
  try {
    config = parseConfig(readEnvironment());
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    await Deno.stderr.write(new TextEncoder().encode(`${error.message}\n`));
    return 2;
  }
  const logger = await configureLogging({
    level: config.logLevel,
    pretty: Deno.stdout.isTerminal(),
  });
  endOnDefects(logger);
  try {
    await serve(config, logger);
    return 0;
  } catch (error) {
    const text = error instanceof StartError ? error.message : `Cannot serve: ${messageOf(error)}`;
    logger.fatal(text.replace(/[{}]/g, "$&$&")); // no placeholders
    return 1;
  }
}

if (import.meta.main) {
  Deno.exitCode = await main();
  // Nothing is left that keeps the process alive. Under `deno run --watch` it must end so: an exit by
  // force there hangs the watcher.
  Deno.unrefTimer(setTimeout(() => Deno.exit(), END_TIMEOUT_MS));
}
