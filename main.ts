/**
 * The service: makes the cache, the database and the app from the configuration, and serves. On SIGTERM, SIGINT
 * or SIGHUP it finishes running requests before it ends.
 *
 * @module
 */
import { once } from "node:events";
import type { Logger } from "@logtape/logtape";
import { connect } from "@db/driver";
import { Cache, systemRuntime } from "./cache/mod.ts";
import { DeclarationError } from "./db/table_shape.ts";
import { createApp } from "./routes/app.ts";
import { resources as declared } from "./routes/resources.ts";
import { openTables, warmTables } from "./routes/table.ts";
import { accessOf } from "./server/access.ts";
import { breakItIn } from "./server/break_it.ts";
import { readCa } from "./server/certificates.ts";
import { type Config, ConfigError } from "./server/config.ts";
import { requestErrorLogger } from "./server/event_logging.ts";
import { listen } from "./server/listener.ts";
import { configureLogging, endOnDefects, forwardedLogger, logWarming } from "./server/logging.ts";
import { messageOf } from "./server/message_of.ts";
import { openAudit, openCache, openListening } from "./server/open_cache.ts";
import { watchNamedParent, watchSignals } from "./server/parent.ts";
import { RateLimits } from "./server/rate_limits.ts";
import { readiness, READINESS_TIMEOUT_MS } from "./server/readiness.ts";
import { databaseOptions, loadConfig } from "./server/secrets.ts";
import { refusalOf, StartError } from "./server/start_error.ts";
import { warnOfTables } from "./server/table_warnings.ts";
import { doneWithin } from "./server/within.ts";
import { Worker } from "./server/worker.ts";

/** Time that the cache and the database have to close. */
const CLOSE_TIMEOUT_MS = 5_000;
/** Time that the process has to end by itself once all is closed. */
const END_TIMEOUT_MS = 1_000;

/** Runs the service until it is told to stop. */
async function serve(config: Config, logger: Logger): Promise<void> {
  const stopping = new AbortController();
  const stopped = once(stopping.signal, "abort");
  const stop = () => stopping.abort();
  await using resources = new AsyncDisposableStack();
  resources.use(watchSignals(stop));
  resources.use(watchNamedParent(Deno.args, stop));
  const worker = config.workers > 1 ? resources.use(new Worker()) : undefined;
  const service = await compose(config, { resources, stopping: stopping.signal, logger });
  // Otherwise changes that were committed before the start would invalidate the first entries.
  await Promise.race([service.settled, stopped]);
  const server = listen(config, service.fetch, logger);
  let refusal: StartError | undefined;
  const checked = refusalOf(service.tables, service.relayRefused).then((error) => {
    refusal = error;
    if (error !== undefined) stop();
    // Postgres is unavailable, or the start has ended: no warnings about tables.
    else return warnOfTables(service.tables, logger).catch(() => undefined);
  });
  if (worker !== undefined) {
    // The supervisor gives up if a process ends before this message, and otherwise starts another.
    void doneWithin(READINESS_TIMEOUT_MS, checked).then(() => refusal ?? worker.tell("listening"));
    void worker.announce(service.ready);
  }
  if (config.warmCount > 0) void logWarming(service.warm(config.warmCount), logger);

  await stopped;
  logger.info("stopping");
  if (!await doneWithin(config.http.shutdownTimeoutMs, server.shutdown())) {
    logger.warn("stopped after SHUTDOWN_TIMEOUT_MS with requests still running");
  }
  if (!await doneWithin(CLOSE_TIMEOUT_MS, resources.disposeAsync())) {
    logger.warn("stopped before every connection was closed");
  }
  logger.info("stopped");
  if (refusal !== undefined) throw refusal;
}

/** Makes the database, the cache and the app. `resources` closes them, the database last. */
async function compose(
  config: Config,
  { resources, stopping, logger }: {
    readonly resources: AsyncDisposableStack;
    readonly stopping: AbortSignal;
    readonly logger: Logger;
  },
) {
  const tracing = config.tracing ? await import("./server/tracing.ts") : undefined;
  const connected = resources.use(connect(await databaseOptions(config, logger)));
  const database = tracing?.traceDatabase(connected) ?? connected;
  const listening = resources.use(await openListening(config, logger));
  const trusted = await readCa(config.cache.caFile);
  const CacheClass = tracing?.TracedCache ?? Cache;
  const opened = openCache({ config, database, listening, trusted, CacheClass, resources, logger });
  const { cache, invalidations, relayRefused, settled } = opened;
  const tables = openTables(declared, database);
  const audit = resources.use(openAudit(config, { cache, tables, logger }));
  const limits = resources.use(new RateLimits({ ...config.cache, ...trusted }));
  const ready = readiness(tables, { stopping, settled });
  const warm = (count?: number) => warmTables(cache, tables, count);
  const { listTtlMs, corsOrigins, corsWriteOrigins, trustedProxies } = config.http;
  const breakIt = breakItIn(Deno.args);
  const app = createApp({
    listTtlMs,
    corsOrigins,
    corsWriteOrigins,
    cache,
    tables,
    database,
    invalidations,
    stopping,
    ready,
    warm,
    clock: systemRuntime.clock,
    access: accessOf(config, logger),
    limits: limits.of(config.http, forwardedLogger(trustedProxies, logger)),
    ...(audit === undefined ? {} : { audit }),
    ...(breakIt === undefined ? {} : { breakIt }),
    onError: requestErrorLogger(logger, systemRuntime.clock),
  });
  return { fetch: app.fetch, tables, relayRefused, ready, settled, warm };
}

async function main(): Promise<number> {
  let config: Config;
  try {
    config = loadConfig();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    await Deno.stderr.write(new TextEncoder().encode(`${error.message}\n`));
    return 2;
  }
  const pretty = Deno.stdout.isTerminal();
  const logger = await configureLogging({ level: config.logLevel, pretty });
  endOnDefects(logger);
  try {
    await serve(config, logger);
    return 0;
  } catch (error) {
    const isExplained = error instanceof StartError || error instanceof DeclarationError;
    const text = isExplained ? error.message : `Cannot serve: ${messageOf(error)}`;
    logger.fatal(text.replace(/[{}]/g, "$&$&")); // no placeholders
    return 1;
  }
}

if (import.meta.main) {
  Deno.exitCode = await main();
  // Nothing should keep the process alive now. Under `--watch`, an exit by force would hang the watcher.
  Deno.unrefTimer(setTimeout(() => Deno.exit(), END_TIMEOUT_MS));
}
