/**
 * The cache and what keeps it coherent with the database, from the configuration.
 *
 * @module
 */
import type { Logger } from "@logtape/logtape";
import { connect } from "@db/driver";
import { Audit, postgresChanges } from "../changes/mod.ts";
import { type Cache, systemRuntime } from "../cache/mod.ts";
import { changesDatabase } from "../db/changes_database.ts";
import type { Database } from "../db/database.ts";
import { InvalidationLog } from "../cache/dashboard/mod.ts";
import { loadRow, type Table } from "../routes/table.ts";
import { readCa } from "./certificates.ts";
import type { Config } from "./config.ts";
import {
  cacheEventLogger,
  listenErrorLogger,
  lookupLogger,
  problemLogger,
} from "./event_logging.ts";
import { messageOf } from "./message_of.ts";
import { startErrorOf } from "./start_error.ts";
import { doneWithin } from "./within.ts";

/** Time for which the service waits for a Redis that does not answer, before it is ready without it. */
const REDIS_START_MS = 5_000;

/** Options of {@linkcode openCache}. */
export interface OpenCacheOptions {
  /** The configuration. */
  readonly config: Config;
  /** The database in which changes are recorded. */
  readonly database: Database;
  /** The database for `LISTEN`, if it is another. */
  readonly listening: Database | undefined;
  /** Certificates to trust for Redis. */
  readonly trusted: { readonly ca?: string };
  /** The class to make, which traces if spans are enabled. */
  readonly CacheClass: typeof Cache;
  /** Closes the cache. */
  readonly resources: AsyncDisposableStack;
  /** Logs events. */
  readonly logger: Logger;
}

/** A cache that follows the changes of the database. */
export interface OpenCache {
  readonly cache: Cache;
  /** The latest invalidations. */
  readonly invalidations: InvalidationLog;
  /** Resolves with the first permanent failure of the relay, or once the relay has worked. */
  readonly relayRefused: Promise<unknown>;
  /** Resolves once changes that were committed before the start can no longer invalidate new entries. */
  readonly settled: Promise<boolean>;
}

/** Connects to the database for `LISTEN`, if it is another. */
export async function openListening(
  { changes: { databaseUrl: url }, database }: Config,
  logger: Logger,
): Promise<Database | undefined> {
  if (url === undefined) return undefined;
  const onListenError = listenErrorLogger(logger, systemRuntime.clock);
  return connect({ url, poolMax: 1, ...await readCa(database.caFile), onListenError });
}

/** Makes the cache and starts to relay changes to it. */
export function openCache(
  { config, database, listening, trusted, CacheClass, resources, logger }: OpenCacheOptions,
): OpenCache {
  const redisTried = Promise.withResolvers<void>();
  const logEvent = cacheEventLogger(logger, systemRuntime.clock);
  const relayRefused = Promise.withResolvers<unknown>();
  const noteRefusal = (error: unknown): void => {
    if (startErrorOf(error) === undefined) return;
    relayRefused.resolve(error);
    redisTried.resolve(); // the start ends, so nothing waits for Redis
  };
  const invalidations = new InvalidationLog(systemRuntime.clock);
  const { caFile: _read, ...options } = config.cache;
  const { databaseUrl: _listened, ...following } = config.changes;
  const cache: Cache = resources.use(
    new CacheClass({
      ...trusted,
      ...options,
      changes: postgresChanges(changesDatabase(database), {
        ...following,
        listen: config.changes.listen && changesDatabase(listening ?? database),
        install: false, // `deno task seed` does it, with the necessary rights
        onInvalidated: (names) => invalidations.note("change feed", names),
        onProblem: problemLogger(logger, systemRuntime.clock),
        onError: (error) => {
          noteRefusal(error);
          logger.warn("Cannot relay changes: {reason}", { reason: messageOf(error) });
        },
      }),
      onEvent: (event) => {
        const cannotConnect = event.type === "redis-error" && event.command === "connect";
        if (event.type === "caught-up" || cannotConnect) redisTried.resolve();
        if (event.type === "catch-up-error") noteRefusal(event.error);
        if (!resources.disposed) logEvent(event); // a closing cache loses its connections
      },
      ...(logger.isEnabledFor("debug") ? { onLookup: lookupLogger(logger) } : {}),
    }),
  );
  const inUse = config.cache.enabled && config.cache.url !== "memory:";
  const tried = inUse ? redisTried.promise : cache.changes.caughtUp().catch(() => undefined); // `onError` gets it
  const settled = doneWithin(REDIS_START_MS, tried);
  void settled.then(relayRefused.resolve);
  return { cache, invalidations, relayRefused: relayRefused.promise, settled };
}

/** Compares a share of the answers with the database, if enabled. */
export function openAudit(
  config: Config,
  { cache, tables, logger }: {
    readonly cache: Cache;
    readonly tables: readonly Table[];
    readonly logger: Logger;
  },
): Audit | undefined {
  if (config.auditRatio === 0) return undefined;
  return new Audit({
    ratio: config.auditRatio,
    propagationMs: config.cache.memoryLeaseMs + config.changes.pollMs,
    cache,
    load: (key) => loadRow(tables, key),
    onStale: (key) =>
      logger.error(
        "the cache answered an old value of {key}: compare it with Postgres, and report it",
        { key },
      ),
    onError: (error) =>
      logger.warn("Cannot compare an answer with Postgres: {reason}", { reason: messageOf(error) }),
    clock: systemRuntime.clock,
    random: systemRuntime.random,
  });
}
