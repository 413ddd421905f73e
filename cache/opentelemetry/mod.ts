/**
 * Spans through the OpenTelemetry API: they go where the program sends its own, otherwise nowhere.
 *
 * @example
 * ```ts
 * import { TracedCache } from "@lookaside/cache/opentelemetry";
 *
 * await using cache = new TracedCache({ url: "memory:" }); // in place of `new Cache(…)`
 * ```
 *
 * @module
 */

export { spanned } from "./spanned.ts";
export { TracedCache } from "./traced_cache.ts";
