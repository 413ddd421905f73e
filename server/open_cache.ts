/**
 * The cache and what keeps it coherent with the database, from the configuration.
 *
 * @module
 */
import type { Logger } from "@logtape/logtape";
import { Audit, postgresChanges } from "../changes/mod.ts";
import { type Cache, type Changes, systemRuntime } from "../cache/mod.ts";
import { changesDatabase } from "../db/changes_database.ts";
import type { Database } from "../db/database.ts";
import { InvalidationLog } from "../cache/dashboard/mod.ts";
import { loadRow, type Table } from "../routes/table.ts";
import type { Config } from "./config.ts";
import {
  cacheEventLogger,
  lookupLogger,
  problemLogger,
  relayErrorLogger,
} from "./event_logging.ts";
import { messageOf } from "./message_of.ts";
import { startErrorOf } from "./start_error.ts";
import { doneWithin } from "./within.ts";

/** How long the service waits for a Redis that does not even refuse before it is ready without. */
const REDIS_START_MS = 5_000;

/** The Redis URL of a cache that is this process's own. */
const IN_MEMORY = "memory:";

/** What {@linkcode openCache} takes. */
export interface OpenCacheOptions {
  /** What the service was told. */
  readonly config: Config;
  /** Where changes are recorded. */
  readonly database: Database;
  /** Where to listen for them, if not there. */
  readonly listening: Database | undefined;
  /** Certificates of those who may vouch for Redis. */
  readonly trusted: { readonly ca?: string };
  /** The class to make: one that traces, where spans are sent. */
  readonly CacheClass: typeof Cache;
  /** What closes both. */
  readonly resources: AsyncDisposableStack;
  /** Told what happens. */
  readonly logger: Logger;
}

/** A cache that follows the database. */
export interface OpenCache {
  /** The cache. */
  readonly cache: Cache;
  /** What relays the changes. */
  readonly changes: Changes;
  /** What was invalidated last. */
  readonly invalidations: InvalidationLog;
  /** Resolves with the first failure of the relay that does not pass by itself, or once it has worked. */
  readonly relayRefused: Promise<unknown>;
  /** Resolves once what was committed before the start cannot invalidate what is filled from now on. */
  readonly settled: Promise<boolean>;
}

/** Makes the cache and begins to relay changes to it. */
export function openCache(
  { config, database, listening, trusted, CacheClass, resources, logger }: OpenCacheOptions,
): OpenCache {
  const redisTried = Promise.withResolvers<void>();
  const logEvent = cacheEventLogger(logger, systemRuntime.clock);
  const relayRefused = Promise.withResolvers<unknown>();
  const logRelayError = relayErrorLogger(logger, systemRuntime.clock);
  const invalidations = new InvalidationLog(systemRuntime.clock);
  const cache: Cache = resources.use(
    new CacheClass({
      ...trusted,
      ...config.cache,
      changes: postgresChanges(changesDatabase(database), {
        ...config.changes,
        listen: config.changes.listen && changesDatabase(listening ?? database),
        install: false, // `deno task seed` does, as a role that may
        onInvalidated: (names) => invalidations.note("change feed", names),
        onProblem: problemLogger(logger, systemRuntime.clock),
        onError: (error) => {
          if (startErrorOf(error) !== undefined) relayRefused.resolve(error);
          logRelayError(error);
        },
      }),
      // That its connections end is no news while it closes.
      onEvent: (event) => {
        const refused = event.type === "redis-error" && event.command === "connect";
        if (event.type === "caught-up" || refused) redisTried.resolve();
        if (event.type === "catch-up-error" && startErrorOf(event.error) !== undefined) {
          relayRefused.resolve(event.error);
        }
        if (!resources.disposed) logEvent(event);
      },
      ...(logger.isEnabledFor("debug") ? { onLookup: lookupLogger(logger) } : {}),
    }),
  );
  const { changes } = cache;
  const inUse = config.cache.enabled && config.cache.url !== IN_MEMORY;
  const settled = doneWithin(REDIS_START_MS, inUse ? redisTried.promise : caughtUp(changes));
  void settled.then(relayRefused.resolve);
  return { cache, changes, invalidations, relayRefused: relayRefused.promise, settled };
}

/** Catches up, or gives up for now. */
async function caughtUp(changes: Changes): Promise<void> {
  await changes.caughtUp().catch(() => undefined); // `onError` is told of it
}

/** Compares a share of the answers with the database, where that is asked for. */
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
    onStale: (key) => logger.error("the cache answered an old {key}", { key }),
    onError: (error) => logger.warn("Cannot audit: {reason}", { reason: messageOf(error) }),
    clock: systemRuntime.clock,
    random: systemRuntime.random,
  });
}
