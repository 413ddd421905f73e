/**
 * Events of the cache, the relays and the requests as log records. Failures of Redis and of the relays come at
 * most once a minute; others that repeat are logged once a minute, with a count.
 *
 * @module
 */
import type { Logger } from "@logtape/logtape";
import type { CacheEvent, Clock, LookupEvent } from "../cache/mod.ts";
import type { ChangesProblem } from "../changes/mod.ts";
import type { ErrorListener } from "../routes/app.ts";
import { messageOf } from "./message_of.ts";
import { Changes, Repeats } from "./repeats.ts";
import { unlistedAddress } from "./unlisted_address.ts";

type Ticking = Pick<Clock, "monotonicNow">;
type Level = "debug" | "info" | "warn" | "error";

/** Makes the subscriber of the cache's events. */
export function cacheEventLogger(logger: Logger, clock: Ticking): (event: CacheEvent) => void {
  const repeats = new Repeats(clock);
  const limit = changesLimit(logger, new Changes(clock));
  const logRedis = redisEventLogger(logger, limit);
  const warn = (text: string, key: string, error: unknown) =>
    warnOnce(logger, repeats, text, { key, reason: messageOf(error) });
  return (event) => {
    const log = (level: Level, text: string) => logger[level](text, pick(event));
    switch (event.type) {
      case "fill":
        return log("debug", "stored {key}");
      case "fill-refused":
        return log("debug", "did not store {key}: it was invalidated while it was loaded");
      case "invalidate":
        return log("debug", "invalidated {keys}");
      case "invalidate-tags":
        return log("debug", "invalidated the tags {tags}");
      case "clear":
        return event.pending
          ? log("debug", "cleared the cache in this process")
          : log("info", "cleared the cache");
      case "invalidations-lost":
        return log(
          "error",
          "{count} invalidations are lost, because Redis did not take them before the end: other " +
            "processes apply those of watched tables, and the rest stays old until its TTL",
        );
      case "load-error":
        return log("debug", "Cannot load {key}: {error}");
      case "refresh-error":
        return warn("Cannot refresh {key}: {reason}", event.key, event.error);
      case "unreadable":
        return warn("Cannot read the entry of {key}: {reason}", event.key, event.reason);
      case "coherent":
        return event.coherent
          ? log(limit(event.server, "info"), "reads come from memory: {reason}")
          : log(limit(event.server, "warn"), "reads do not come from memory: {reason}");
      default:
        return logRedis(event);
    }
  };
}

/** Answers the level for a record about a server: `debug` if there are too many. */
type Limit = (server: string, level: Level) => Level;

function changesLimit(logger: Logger, changes: Changes): Limit {
  return (server, level) => {
    if (level === "debug") return level;
    const told = changes.note(server);
    if (told === "last") {
      logger.warn(
        "Redis comes and goes too often to log each time: nothing about {server} is logged for up to a minute. " +
          "Look for what ends its connections, such as timeout and client-output-buffer-limit in redis.conf",
        { server },
      );
    }
    return told === "report" ? level : "debug";
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
 * Logs the state of a server. In an outage every command fails: the first is a warning with its reason; the rest,
 * which would flood the log, have level debug. The reasons of failed attempts to connect, and of a Redis that is
 * reached and refuses commands, are all warnings.
 */
function redisEventLogger(logger: Logger, limit: Limit): (event: RedisEvent) => void {
  const said = new Set<string>();
  const isFirst = (what: string): boolean => {
    const first = !said.has(what);
    said.add(what);
    return first;
  };
  return (event) => {
    const { server } = event;
    const log = (level: Level, text: string) => logger[limit(server, level)](text, pick(event));
    switch (event.type) {
      case "breaker": {
        // During an outage of Redis, the breaker opens again several times a second.
        const opened = event.state === "open" && isFirst(`${server} open`);
        const closed = event.state === "closed" && said.delete(`${server} open`);
        const level = opened ? "warn" : closed ? "info" : "debug";
        const text = event.state === "closed"
          ? "Redis answers again: the circuit breaker is {state}"
          : "Redis fails, so most commands are not sent: the circuit breaker is {state}";
        return log(level, text);
      }
      case "connection": {
        said.delete(`${server} ${!event.connected}`);
        if (!isFirst(`${server} ${event.connected}`)) return;
        said.delete(`${server} fails`);
        return event.connected
          ? log("info", "connected to Redis")
          : log("warn", "Redis cannot be reached: answering without it");
      }
      case "fallback":
        return event.active
          ? log("info", "memory stands in for Redis, kept correct by Postgres")
          : log("info", "Redis is in use again");
      case "caught-up":
        said.delete(`${server} is behind`);
        return event.replayed
          ? log("info", "applied the latest changes again, which this Redis may lack")
          : log("info", "Redis has every change so far, and is read");
      case "catch-up-error": {
        const isNews = !isOfOutage(event.error) && isFirst(`${server} is behind`);
        const level = isNews ? "warn" : "debug";
        return log(level, "Cannot apply missed changes, so Redis is not read: {error}");
      }
      case "redis-error": {
        const address = unlistedAddress(event.error);
        const isConnecting = event.command === "connect";
        const done = isConnecting ? "connect to Redis" : `run ${event.command} on Redis`;
        const text = address === undefined
          ? `Cannot ${done}: ${messageOf(event.error)}`
          : `Cannot connect to ${address}: the permissions do not list it; add it to REDIS_NODES`;
        // The number of announced addresses is limited by the size of the cluster.
        const isNews = address === undefined && (isConnecting || isReply(event.error)) ||
          !isOfOutage(event.error) && isFirst(`${address ?? server} fails`);
        const isLoud = isNews && limit(server, "warn") === "warn";
        return logger.emit({
          level: isLoud ? address === undefined ? "warning" : "error" : "debug",
          message: [text],
          rawMessage: text,
          timestamp: Date.now(),
          properties: address === undefined ? pick(event) : { server, address },
        });
      }
    }
  };
}

/** Makes the listener for a `LISTEN` that cannot be repeated. Changes are found by polling meanwhile. */
export function listenErrorLogger(logger: Logger, clock: Ticking): (error: unknown) => void {
  const repeats = new Repeats(clock);
  const text = "Cannot listen for changes, so they are found up to CHANGES_POLL_MS late: {reason}";
  return (error) => warnOnce(logger, repeats, text, { reason: messageOf(error) });
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
    if (status !== 500) return warnOnce(logger, repeats, text, record);
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

/** True if Redis replied with an error, as opposed to not replying. */
function isReply(error: unknown): boolean {
  return error instanceof Error && error.name === "ReplyError";
}

/**
 * True if a command was not sent: the connection has been reported as lost, and attempts to open it say why they fail,
 * or the breaker as open.
 */
function isOfOutage(error: unknown): boolean {
  return error instanceof Error && /^(NotConnected|BreakerOpen)Error$/.test(error.name);
}

function countOf(unsaid: number): { readonly unsaid?: number } {
  return unsaid === 0 ? {} : { unsaid };
}

function pick(event: CacheEvent): Record<string, unknown> {
  const { type: _type, ...properties } = event;
  return "error" in properties ? { ...properties, error: messageOf(properties.error) } : properties;
}
