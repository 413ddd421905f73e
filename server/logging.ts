/**
 * Logs: pretty in a terminal, one JSON object per line otherwise, never a password.
 *
 * Library code emits events and does not log; the service turns them into records here.
 *
 * @module
 */
import {
  configure,
  getConsoleSink,
  getJsonLinesFormatter,
  getLogger,
  type Logger,
  type LogRecord,
  type TextFormatter,
} from "@logtape/logtape";
import { getPrettyFormatter } from "@logtape/pretty";
import { redactByPattern, type RedactionPattern } from "@logtape/redaction";
import type { LogLevel } from "./config.ts";
import { messageOf } from "./message_of.ts";

/** The password of a URL anywhere in a text, up to the last `@` before the path. */
const URL_PASSWORD: RedactionPattern = {
  pattern: /\b([a-z][a-z0-9+.-]*:\/\/[^\s:/?#@]*):[^\s/"']+@/gi,
  replacement: "$1:***@",
};

/** Options of {@linkcode configureLogging}. */
export interface LoggingOptions {
  /** The least severe records that are written. */
  readonly level: LogLevel;
  /** True for people, false for machines. */
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
  if (pretty) {
    const text = getPrettyFormatter({ timestamp: "time", wordWrap: false, properties: true });
    return redactByPattern(text, [URL_PASSWORD]);
  }
  const json = getJsonLinesFormatter({ properties: "flatten" });
  const formatter: TextFormatter = (record) =>
    json({ ...record, message: unquoted(record.message) });
  return redactByPattern(formatter, [URL_PASSWORD]);
}

/** Makes strings in a message part of its text: as values they would be written in quotes. */
function unquoted(message: LogRecord["message"]): unknown[] {
  const parts: unknown[] = [""];
  for (const part of message) {
    if (typeof part === "string") parts.push(`${parts.pop()}${part}`);
    else parts.push(part, "");
  }
  return parts;
}

/** Makes the listener for requests whose client the trusted proxies do not name; logged once. */
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

/** Logs the result of warming, which does not hold up the first requests. */
export async function logWarming(work: Promise<number>, logger: Logger): Promise<void> {
  try {
    logger.info("warmed the cache with {count} rows", { count: await work });
  } catch (error) {
    logger.warn("Cannot warm the cache: {reason}", { reason: messageOf(error) });
  }
}

/** Ends the process after a defect, because its state is then unknown. */
export function endOnDefects(logger: Logger): void {
  const end = (event: Event, error: unknown) => {
    event.preventDefault();
    logger.fatal("Cannot go on after an error that nothing caught: {reason}", {
      reason: messageOf(error),
      error,
    });
    Deno.exit(1);
  };
  globalThis.addEventListener("unhandledrejection", (event) => end(event, event.reason));
  globalThis.addEventListener("error", (event) => end(event, event.error));
}
