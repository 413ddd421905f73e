/**
 * Load on an HTTP service, from autocannon.
 *
 * @module
 */
import autocannon from "autocannon";
import { z } from "zod";

/** A service under load. */
export interface Target {
  /** Its address, without a slash at the end. */
  readonly url: string;
  /** Sent with every request. */
  readonly headers: Readonly<Record<string, string>>;
}

/** The durations of a burst. */
export interface Burst {
  /** Time from the first request to the last answer. */
  readonly elapsedMs: number;
  /** Median of the answers. */
  readonly medianMs: number;
}

/** The used part of autocannon, which comes without types. */
interface Run extends PromiseLike<unknown> {
  on(
    event: "response",
    listener: (client: unknown, status: number, bytes: number, tookMs: number) => void,
  ): void;
  on(event: "reqError", listener: (error: unknown) => void): void;
}

interface Client {
  setRequests(requests: readonly { readonly path: string }[]): void;
}

const start: (
  options: Readonly<Record<string, unknown>> & {
    readonly setupClient?: (client: Client) => void;
  },
) => Run = autocannon;

const SAMPLE_MS = 20;

const Result = z.object({
  errors: z.number(),
  timeouts: z.number(),
  non2xx: z.number(),
  "2xx": z.number(),
});

/** The requests and the number of connections. */
export interface Requests {
  /** Paths of the service, shared out among the connections. */
  readonly paths: readonly string[];
  /** Number of connections. */
  readonly connections: number;
}

/** A load at a fixed rate, which requests the paths over and over. */
export interface SteadyLoad extends Requests {
  /** Requests per second of all connections together. */
  readonly ratePerSecond: number;
  /** Duration in seconds. */
  readonly seconds: number;
}

/**
 * Requests each path once, spread evenly over the connections, as fast as they are answered.
 * The number of paths must be a multiple of the number of connections.
 *
 * @throws {Error} An answer was not a success.
 */
export async function sendBurst(target: Target, requests: Requests): Promise<Burst> {
  const timesMs: number[] = [];
  // Opening connections before the first request is not part of the measurement.
  let startedAtMs = Infinity;
  let endedAtMs = 0;
  // It checks for the end as often as it takes a sample.
  const run = startRun(target, requests, { amount: requests.paths.length, sampleInt: SAMPLE_MS });
  run.on("response", (_client, _status, _bytes, tookMs) => {
    timesMs.push(tookMs);
    endedAtMs = performance.now();
    startedAtMs = Math.min(startedAtMs, endedAtMs - tookMs);
  });
  assertAllGood(await run);
  return {
    elapsedMs: endedAtMs - startedAtMs,
    medianMs: medianOf(timesMs),
  };
}

/** The median, or NaN if there are no values. */
export function medianOf(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

/**
 * Puts a steady load on a service. Answers its duration in milliseconds.
 *
 * @throws {Error} An answer was not a success.
 */
export async function sendSteadily(
  target: Target,
  load: SteadyLoad,
  onProgress: (answered: number) => void,
): Promise<number> {
  let answered = 0;
  const startedAtMs = performance.now();
  const run = startSteadily(target, load);
  run.on("response", () => onProgress(++answered));
  assertAllGood(await run);
  return performance.now() - startedAtMs;
}

/**
 * As {@linkcode sendSteadily}, but accepts failures and reports each outcome: the status of an answer, or 0
 * without one.
 */
export async function sendThroughout(
  target: Target,
  load: SteadyLoad,
  onOutcome: (status: number, tookMs: number) => void,
): Promise<void> {
  const run = startSteadily(target, load);
  run.on("response", (_client, status, _bytes, tookMs) => onOutcome(status, tookMs));
  run.on("reqError", () => onOutcome(0, 0));
  await run;
}

function startSteadily(target: Target, load: SteadyLoad): Run {
  return startRun(target, load, { overallRate: load.ratePerSecond, duration: load.seconds });
}

function startRun(
  target: Target,
  { paths, connections }: Requests,
  options: Readonly<Record<string, number>>,
): Run {
  const share = Math.ceil(paths.length / connections);
  let clients = 0;
  return start({
    ...target,
    ...options,
    connections,
    // Every client begins with the first of its requests, so each gets its own list.
    setupClient: (client) => {
      const from = clients++ * share;
      client.setRequests(paths.slice(from, from + share).map((path) => ({ path })));
    },
  });
}

function assertAllGood(result: unknown): void {
  const { errors, timeouts, non2xx, ...good } = Result.parse(result);
  if (errors + timeouts + non2xx === 0 && good["2xx"] > 0) return;
  throw new Error(
    `Cannot measure: of the answers ${non2xx} were no success, ${errors} requests failed, ` +
      `${timeouts} timed out`,
  );
}
