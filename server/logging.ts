/**
 * Logs: pretty in a terminal, one JSON object per line otherwise, never a password.
 *
 * Library code emits events and does not log; here the composition root turns them into records.
 *
 * @module
 */
import {
  configure,
  getConsoleSink,
  getJsonLinesFormatter,
  getLogger,
  type Logger,
  type TextFormatter,
} from "@logtape/logtape";
import { getPrettyFormatter } from "@logtape/pretty";
import { redactByPattern, type RedactionPattern } from "@logtape/redaction";
import type { CacheEvent, Clock, LookupEvent } from "../cache/mod.ts";
import type { ErrorListener } from "../routes/app.ts";
import { messageOf } from "./message_of.ts";

/** Severities of log records, from the most talkative. */
export type LogLevel = "trace" | "debug" | "info" | "warning" | "error" | "fatal";

/** The password of a URL anywhere in a text, up to the last `@` before the path. */
const URL_PASSWORD: RedactionPattern = {
  pattern: /\b([a-z][a-z0-9+.-]*:\/\/[^\s:/?#@]*):[^\s/"']+@/gi,
  replacement: "$1:***@",
};

/** How often what keeps failing for the same reason is said. */
const REPEAT_MS = 60_000;

/** How Deno refuses to connect. */
const NET_REFUSAL = /^Requires net access to "([^"]+)"/;

/** Options of {@linkcode configureLogging}. */
export interface LoggingOptions {
  /** The least severe records that are written. */
  readonly level: LogLevel;
  /** For people (`true`) or for machines. */
  readonly pretty: boolean;
}

/** Sets logging up for this process and answers the service's logger. */
export async function configureLogging(options: LoggingOptions): Promise<Logger> {
  await configure({
    sinks: { console: getConsoleSink({ formatter: logFormatter(options.pretty) }) },
    loggers: [
      { category: "lookaside", lowestLevel: options.level, sinks: ["console"] },
      { category: ["logtape", "meta"], lowestLevel: "warning", sinks: ["console"] },
    ],
  });
  return getLogger("lookaside");
}

/** Renders a record, without the passwords of the URLs in it. */
export function logFormatter(pretty: boolean): TextFormatter {
  const formatter: TextFormatter = pretty
    ? getPrettyFormatter({ timestamp: "time", wordWrap: false, properties: true })
    : getJsonLinesFormatter({ properties: "flatten" });
  return redactByPattern(formatter, [URL_PASSWORD]);
}

/** Makes the subscriber of the cache's events. */
export function cacheEventLogger(logger: Logger): (event: CacheEvent) => void {
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
          "{count} invalidations are lost: Redis has not taken them",
          pick(event),
        );
      case "load-error":
        return logger.debug("Cannot load {key}: {error}", pick(event));
      case "refresh-error":
        return logger.warn("Cannot refresh {key}: {error}", pick(event));
      case "unreadable":
        return logger.warn("Cannot read the entry of {key}: {reason}", pick(event));
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
  { readonly type: "breaker" | "connection" | "caught-up" | "catch-up-error" | "redis-error" }
>;

/**
 * Says how a server fares. An outage fails every command and every attempt to mend it: the first of each
 * says why, and the rest, which would bury the log, are for debugging.
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
        // While Redis is away it is tried, and opens again, several times a second.
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
      case "caught-up":
        said.delete(`${server} is behind`);
        return logger.info("caught up with the changes made while Redis was away", pick(event));
      case "catch-up-error": {
        const level = isFirst(`${server} is behind`) ? "warn" : "debug";
        return logger[level]("Cannot catch up, so Redis is not read: {error}", pick(event));
      }
      case "redis-error": {
        const address = unlistedAddress(event.error);
        // A placeholder would put it in quotes.
        const text = address === undefined
          ? `Cannot run ${event.command} on Redis: ${messageOf(event.error)}`
          : `Cannot connect to ${address}: the permissions do not list it; add it to REDIS_NODES`;
        // What a cluster announces is bounded by the cluster.
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

/** Makes the listener to a relay's failures. While Redis or Postgres is away it tries twice a second. */
export function relayErrorLogger(
  logger: Logger,
  clock: Pick<Clock, "monotonicNow">,
): (error: unknown) => void {
  let last = { reason: "", atMs: -Infinity };
  return (error) => {
    const reason = messageOf(error);
    const atMs = clock.monotonicNow();
    const repeats = reason === last.reason && atMs - last.atMs < REPEAT_MS;
    if (!repeats) last = { reason, atMs };
    logger[repeats ? "debug" : "warn"]("Cannot relay changes: {reason}", { reason });
  };
}

/** Makes the subscriber of answered reads. It runs on every hit: subscribe it for debugging only. */
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

/** Makes the listener to requests that failed through no fault of the client's. */
export function requestErrorLogger(logger: Logger): ErrorListener {
  return (error, { method, path, status }) => {
    const record = { method, path, status, reason: messageOf(error) };
    if (status === 503) logger.warn("{status} {method} {path}: {reason}", record);
    else logger.error("{status} {method} {path}: {reason}", { ...record, error });
  };
}

/** Makes the listener to requests whose client the trusted proxies do not tell: said once. */
export function forwardedLogger(trustedProxies: number, logger: Logger): () => void {
  let said = false;
  return () => {
    if (said) return;
    said = true;
    logger.warn(
      "Cannot tell clients apart: TRUST_PROXY is {trustedProxies}, but X-Forwarded-For or Forwarded does " +
        "not name so many, or the two disagree. Such requests count as the proxy's own",
      { trustedProxies },
    );
  };
}

/** Tells how warming went. It runs beside the first requests: a cold start must not wait for a warm one. */
export async function logWarming(work: Promise<number>, logger: Logger): Promise<void> {
  try {
    logger.info("warmed {count} users", { count: await work });
  } catch (error) {
    logger.warn("Cannot warm the cache: {reason}", { reason: messageOf(error) });
  }
}

/** Ends the process after a defect, which leaves it in a state nobody has thought about. */
export function endOnDefects(logger: Logger): void {
  const end = (event: Event, error: unknown) => {
    event.preventDefault();
    logger.fatal("ended by a defect: {reason}", { reason: messageOf(error), error });
    Deno.exit(1);
  };
  globalThis.addEventListener("unhandledrejection", (event) => end(event, event.reason));
  globalThis.addEventListener("error", (event) => end(event, event.error));
}

/** The address that Deno does not let this process connect to, if that is what is wrong. */
function unlistedAddress(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error instanceof Deno.errors.NotCapable) return NET_REFUSAL.exec(error.message)?.[1];
  // What a cluster's client says when no server answers.
  const { lastNodeError } = error as { lastNodeError?: unknown };
  return unlistedAddress(lastNodeError ?? error.cause);
}

function pick(event: CacheEvent): Record<string, unknown> {
  const { type: _type, ...properties } = event;
  return "error" in properties ? { ...properties, error: messageOf(properties.error) } : properties;
}
