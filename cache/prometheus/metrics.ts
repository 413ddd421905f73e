/**
 * Metrics whose values are read at each scrape.
 *
 * @module
 */
import { Counter, Gauge, type Registry } from "prom-client";

/** A value with the labels that distinguish it from others of its metric. */
export type Sample = readonly [value: number, labels: Readonly<Record<string, string>>];

/** A figure, or one for each set of labels. `undefined`: unavailable now. */
export type Reading = number | undefined | readonly Sample[];

/** Reads a figure at a scrape. */
export type Read = () => Reading | Promise<Reading>;

/** Quantiles of durations, in milliseconds. */
export interface Durations {
  /** Median. */
  readonly p50Ms: number;
  /** 99th percentile. */
  readonly p99Ms: number;
  /** Largest. */
  readonly maxMs: number;
}

/**
 * Adds metrics to a registry, each read when it is scraped.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Metrics } from "@lookaside/cache/prometheus";
 * import { Registry } from "prom-client";
 *
 * const registry = new Registry();
 * const waiting = ["a", "b"];
 * new Metrics(registry, "shop_").gauge("waiting", "Orders that wait", () => waiting.length);
 * assert.match(await registry.metrics(), /^shop_waiting 2$/m);
 * ```
 */
export class Metrics {
  readonly #registry: Registry;
  readonly #prefix: string;

  /** Every name begins with `prefix`. */
  constructor(registry: Registry, prefix: string) {
    this.#registry = registry;
    this.#prefix = prefix;
  }

  /** Adds a counter. */
  counter(name: string, help: string, read: Read, labelNames: string[] = []): void {
    const metric: Counter = new Counter({
      name: `${this.#prefix}${name}`,
      help,
      labelNames,
      registers: [this.#registry],
      collect: () => filled(metric, read()),
    });
  }

  /** Adds a gauge. */
  gauge(name: string, help: string, read: Read, labelNames: string[] = []): void {
    const metric: Gauge = new Gauge({
      name: `${this.#prefix}${name}`,
      help,
      labelNames,
      registers: [this.#registry],
      collect: () => filled(metric, read()),
    });
  }

  /** Adds quantiles of durations, in seconds. */
  quantiles(name: string, help: string, read: () => Durations): void {
    const seconds = () => {
      const { p50Ms, p99Ms, maxMs } = read();
      return { "0.5": p50Ms / 1000, "0.99": p99Ms / 1000, "1": maxMs / 1000 };
    };
    this.gauge(name, help, labelled("quantile", seconds), ["quantile"]);
  }
}

/** Reads several figures that one label distinguishes. */
export function labelled(
  label: string,
  read: () => Readonly<Record<string, number>>,
): () => Sample[] {
  return () => Object.entries(read()).map(([name, value]) => [value, { [label]: name }]);
}

function filled(
  metric: Counter | Gauge,
  reading: Reading | Promise<Reading>,
): Promise<void> | void {
  if (reading instanceof Promise) return reading.then((read) => filled(metric, read));
  metric.reset();
  if (reading === undefined) return metric.remove();
  const samples: readonly Sample[] = typeof reading === "number" ? [[reading, {}]] : reading;
  for (const [value, labels] of samples) metric.inc({ ...labels }, value);
}
