/**
 * Events of the cache, the relays and the requests as log records. Failures that repeat during an outage are
 * logged once a minute, with a count.
 *
 * @module
 */
import type { Logger } from "@logtape/logtape";
import type { CacheEvent, Clock, LookupEvent } from "../cache/mod.ts";
import type { ChangesProblem } from "../changes/mod.ts";
import type { ErrorListener } from "../routes/app.ts";
import { messageOf } from "./message_of.ts";
import { Repeats } from "./repeats.ts";
import { unlistedAddress } from "./unlisted_address.ts";

type Ticking = Pick<Clock, "monotonicNow">;

/** Makes the subscriber of the cache's events. */
export function cacheEventLogger(logger: Logger, clock: Ticking): (event: CacheEvent) => void {
  const repeats = new Repeats(clock);
  const logRedis = redisEventLogger(logger);
  return (event) => {
    switch (event.type) {
      case "fill":
        return logger.debug("fill {key}", pick(event));
      case "fill-refused":
        return logger.debug("fill of {key} refused: it was invalidated meanwhile", pick(event));
      case "invalidate":
        return logger.debug("delete {keys}", pick(event));
      case "invalidate-tags":
        return logger.debug("delete tags {tags}", pick(event));
      case "clear":
        return logger.info("clear", pick(event));
      case "invalidations-lost":
        return logger.error(
          "{count} invalidations are lost: Redis did not accept them",
          pick(event),
        );
      case "load-error":
        return logger.debug("Cannot load {key}: {error}", pick(event));
      case "refresh-error":
        return warnOnce(logger, repeats, "Cannot refresh {key}: {reason}", {
          key: event.key,
          reason: messageOf(event.error),
        });
      case "unreadable":
        return warnOnce(logger, repeats, "Cannot read the entry of {key}: {reason}", {
          key: event.key,
          reason: messageOf(event.reason),
        });
      case "coherent":
        return event.coherent
          ? logger.info("memory tier in use: {reason}", pick(event))
          : logger.warn("memory tier bypassed: {reason}", pick(event));
      default:
        return logRedis(event);
    }
  };
}

type RedisEvent = Extract<
  CacheEvent,
  {
    readonly type:
      | "breaker"
      | "connection"
      | "fallback"
      | "caught-up"
      | "catch-up-error"
      | "redis-error";
  }
>;

/**
 * Logs the state of a server. In an outage every command and every reconnect fails: the first of each is a
 * warning with its reason; the rest, which would flood the log, have level debug.
 */
function redisEventLogger(logger: Logger): (event: RedisEvent) => void {
  const said = new Set<string>();
  const isFirst = (what: string): boolean => {
    const first = !said.has(what);
    said.add(what);
    return first;
  };
  return (event) => {
    const { server } = event;
    switch (event.type) {
      case "breaker": {
        // During an outage of Redis, the breaker opens again several times a second.
        const opened = event.state === "open" && isFirst(`${server} open`);
        const closed = event.state === "closed" && said.delete(`${server} open`);
        const level = opened ? "warn" : closed ? "info" : "debug";
        return logger[level]("circuit breaker of Redis: {state}", pick(event));
      }
      case "connection": {
        said.delete(`${server} ${!event.connected}`);
        if (!isFirst(`${server} ${event.connected}`)) return;
        said.delete(`${server} fails`);
        return event.connected
          ? logger.info("connected to Redis", pick(event))
          : logger.warn("Redis cannot be reached: answering without it", pick(event));
      }
      case "fallback":
        return event.active
          ? logger.info("memory stands in for Redis, kept correct by Postgres", pick(event))
          : logger.info("Redis is in use again", pick(event));
      case "caught-up":
        said.delete(`${server} is behind`);
        return logger.info(
          event.replayed
            ? "applied the latest changes again, which this Redis may lack"
            : "Redis has every change so far",
          pick(event),
        );
      case "catch-up-error": {
        const level = isFirst(`${server} is behind`) ? "warn" : "debug";
        return logger[level](
          "Cannot apply missed changes, so Redis is not read: {error}",
          pick(event),
        );
      }
      case "redis-error": {
        const address = unlistedAddress(event.error);
        // A placeholder would put the name in quotes.
        const text = address === undefined
          ? `Cannot run ${event.command} on Redis: ${messageOf(event.error)}`
          : `Cannot connect to ${address}: the permissions do not list it; add it to REDIS_NODES`;
        // The number of announced addresses is limited by the size of the cluster.
        const level = isFirst(`${address ?? server} fails`) ? "warning" : "debug";
        return logger.emit({
          level: level === "warning" && address !== undefined ? "error" : level,
          message: [text],
          rawMessage: text,
          timestamp: Date.now(),
          properties: address === undefined ? pick(event) : { server, address },
        });
      }
    }
  };
}

/** Makes the listener for a relay's failures. During an outage of Redis or Postgres it retries twice a second. */
export function relayErrorLogger(logger: Logger, clock: Ticking): (error: unknown) => void {
  const repeats = new Repeats(clock);
  return (error) =>
    warnOnce(logger, repeats, "Cannot relay changes: {reason}", { reason: messageOf(error) });
}

/** Makes the listener for problems that a person must fix, which are reported every minute. */
export function problemLogger(
  logger: Logger,
  clock: Ticking,
): (problem: ChangesProblem) => void {
  const repeats = new Repeats(clock);
  return ({ problem, remedy }) =>
    warnOnce(logger, repeats, "{reason}. {remedy}", { reason: problem, remedy });
}

/** Makes the subscriber of answered reads. It runs on every hit, so use it only for debugging. */
export function lookupLogger(logger: Logger): (event: LookupEvent) => void {
  return (event) => {
    const outcome = event.source === "load" ? "miss" : event.stale ? "stale hit" : "hit";
    logger.debug("{outcome} {key} from {tier} in {durationMs} ms", {
      outcome,
      key: event.key,
      tier: event.source,
      durationMs: Math.round(event.durationMs * 1_000) / 1_000,
    });
  };
}

/** Makes the listener for requests that failed through no fault of the client. */
export function requestErrorLogger(logger: Logger, clock: Ticking): ErrorListener {
  const repeats = new Repeats(clock);
  return (error, { method, path, status }) => {
    const record = { method, path, status, reason: messageOf(error) };
    const text = "{status} {method} {path}: {reason}";
    if (status === 503) return warnOnce(logger, repeats, text, record);
    const unsaid = repeats.note(record.reason);
    if (unsaid === undefined) logger.debug(text, record);
    else logger.error(text, { ...record, ...countOf(unsaid), error });
  };
}

/** Logs a failure with its reason, and the number of equal failures that were not logged. */
function warnOnce(
  logger: Logger,
  repeats: Repeats,
  text: string,
  record: { readonly [name: string]: unknown; readonly reason: string },
): void {
  const unsaid = repeats.note(`${text} ${record.reason}`);
  if (unsaid === undefined) logger.debug(text, record);
  else logger.warn(text, { ...record, ...countOf(unsaid) });
}

function countOf(unsaid: number): { readonly unsaid?: number } {
  return unsaid === 0 ? {} : { unsaid };
}

function pick(event: CacheEvent): Record<string, unknown> {
  const { type: _type, ...properties } = event;
  return "error" in properties ? { ...properties, error: messageOf(properties.error) } : properties;
}
