import type { Source } from "./lookup.ts";
import type { Clock } from "./runtime.ts";
import type { CacheStats } from "./stats.ts";

/** Time for which an error that was told is not told again. */
const REPEAT_MS = 60_000;
/** Limit of errors that are told within that time. */
const ERRORS_MAX = 100;
const TEXT_LENGTH_MAX = 1_000;
/** The end of a reply to an unknown command: it names keys, so each would be another error. */
const ARGUMENTS = /, with args beginning with: [^]*/;

/**
 * Something that happened in a cache. Library code does not log: subscribe a logger to these events. Keys are
 * logical keys; durations are milliseconds; servers are given by name.
 */
export type CacheEvent =
  | { readonly type: "fill"; readonly key: string; readonly ttlMs: number; readonly costMs: number }
  | { readonly type: "fill-refused"; readonly key: string }
  | { readonly type: "invalidate"; readonly keys: readonly string[]; readonly pending: boolean }
  | {
    readonly type: "invalidate-tags";
    readonly tags: readonly string[];
    readonly pending: boolean;
  }
  | { readonly type: "clear"; readonly pending: boolean }
  | { readonly type: "invalidations-lost"; readonly server: string; readonly count: number }
  | { readonly type: "load-error"; readonly key: string; readonly error: unknown }
  | { readonly type: "refresh-error"; readonly key: string; readonly error: unknown }
  | { readonly type: "unreadable"; readonly key: string; readonly reason: string }
  | {
    readonly type: "coherent";
    readonly server: string;
    readonly coherent: boolean;
    readonly reason: string;
  }
  | {
    readonly type: "redis-error";
    readonly server: string;
    readonly command: string;
    readonly error: unknown;
  }
  | { readonly type: "breaker"; readonly server: string; readonly state: CacheStats["breaker"] }
  | { readonly type: "fallback"; readonly server: string; readonly active: boolean }
  | { readonly type: "connection"; readonly server: string; readonly connected: boolean }
  | { readonly type: "catch-up-error"; readonly server: string; readonly error: unknown }
  | { readonly type: "caught-up"; readonly server: string; readonly replayed: boolean };

/** One answered read, for debug logs. */
export interface LookupEvent {
  /** The logical key. */
  readonly key: string;
  /** The origin of the answer. */
  readonly source: Source;
  /** True if it was served past its fresh life. */
  readonly stale: boolean;
  /** Duration of the read in milliseconds. */
  readonly durationMs: number;
}

/** Tells the same error of a server once a minute: in an outage each read meets with it. */
export function seldom(
  clock: Pick<Clock, "monotonicNow">,
  emit: (event: CacheEvent) => void,
): (event: Extract<CacheEvent, { readonly type: "redis-error" | "catch-up-error" }>) => void {
  const told = new Map<string, number>();
  return (event) => {
    const { type, error } = event;
    const command = type === "redis-error" ? event.command : type;
    const text = `${command} ${error instanceof Error ? error.message : typeof error}`
      .replace(ARGUMENTS, "").slice(0, TEXT_LENGTH_MAX);
    const nowMs = clock.monotonicNow();
    for (const [each, atMs] of told) {
      if (nowMs - atMs < REPEAT_MS) break; // those behind it are newer
      told.delete(each);
    }
    if (told.has(text) || told.size >= ERRORS_MAX) return;
    told.set(text, nowMs);
    emit(event);
  };
}
