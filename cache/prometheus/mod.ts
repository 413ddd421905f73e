/**
 * The figures of a cache in a registry of `prom-client`.
 *
 * @example
 * ```ts
 * import { Cache } from "@lookaside/cache";
 * import { collect } from "@lookaside/cache/prometheus";
 * import { register } from "prom-client";
 *
 * await using cache = new Cache();
 * collect(register, cache); // and `register.metrics()` answers a scrape, as ever
 * ```
 *
 * @module
 */

export { collect, type CollectOptions, type MeasuredCache } from "./collect.ts";
export { type Durations, Metrics, type Read, type Reading, type Sample } from "./metrics.ts";
