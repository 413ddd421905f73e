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

/** What a burst took. */
export interface Burst {
  /** From the first request to the last answer. */
  readonly elapsedMs: number;
  /** Median of the answers. */
  readonly medianMs: number;
}

/** The part of autocannon that is used here. It comes without types. */
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

/**
 * Requests each path once, spread evenly over the connections, as fast as they are answered.
 * The number of paths must be a multiple of the number of connections.
 *
 * @throws {Error} An answer was not a success.
 */
export async function sendBurst(
  target: Target,
  options: { readonly paths: readonly string[]; readonly connections: number },
): Promise<Burst> {
  const { paths, connections } = options;
  const share = paths.length / connections;
  const timesMs: number[] = [];
  let clients = 0;
  // Connections are opened before the first request, and are not what is measured.
  let startedAtMs = Infinity;
  let endedAtMs = 0;
  const run = start({
    ...target,
    connections,
    amount: paths.length,
    // It looks this often whether all is answered.
    sampleInt: SAMPLE_MS,
    // Every client goes through its requests from the first, so each gets its own.
    setupClient: (client) => {
      const from = clients++ * share;
      client.setRequests(paths.slice(from, from + share).map((path) => ({ path })));
    },
  });
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

/** The median, or NaN of nothing. */
export function medianOf(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

/**
 * Requests the paths over and over at a fixed rate. Answers how many milliseconds that took.
 *
 * @throws {Error} An answer was not a success.
 */
export async function sendSteadily(
  target: Target,
  options: {
    readonly paths: readonly string[];
    readonly connections: number;
    readonly ratePerSecond: number;
    readonly seconds: number;
    readonly onProgress: (answered: number) => void;
  },
): Promise<number> {
  const { paths, connections, ratePerSecond, seconds, onProgress } = options;
  const share = Math.ceil(paths.length / connections);
  let clients = 0;
  let answered = 0;
  const startedAtMs = performance.now();
  const run = start({
    ...target,
    connections,
    overallRate: ratePerSecond,
    duration: seconds,
    setupClient: (client) => {
      const from = clients++ * share;
      client.setRequests(paths.slice(from, from + share).map((path) => ({ path })));
    },
  });
  run.on("response", () => onProgress(++answered));
  assertAllGood(await run);
  return performance.now() - startedAtMs;
}

/** As {@linkcode sendSteadily}, but tells each outcome and takes failures for what they are. */
export async function sendThroughout(
  target: Target,
  options: {
    readonly paths: readonly string[];
    readonly connections: number;
    readonly ratePerSecond: number;
    readonly seconds: number;
    /** Called with the status of each answer, or with 0 where there was none. */
    readonly onOutcome: (status: number, tookMs: number) => void;
  },
): Promise<void> {
  const { paths, connections, ratePerSecond, seconds, onOutcome } = options;
  const share = Math.ceil(paths.length / connections);
  let clients = 0;
  const run = start({
    ...target,
    connections,
    overallRate: ratePerSecond,
    duration: seconds,
    setupClient: (client) => {
      const from = clients++ * share;
      client.setRequests(paths.slice(from, from + share).map((path) => ({ path })));
    },
  });
  run.on("response", (_client, status, _bytes, tookMs) => onOutcome(status, tookMs));
  run.on("reqError", () => onOutcome(0, 0));
  await run;
}

function assertAllGood(result: unknown): void {
  const { errors, timeouts, non2xx, ...good } = Result.parse(result);
  if (errors + timeouts + non2xx === 0 && good["2xx"] > 0) return;
  throw new Error(
    `Cannot measure: of the answers ${non2xx} were no success, ${errors} requests failed, ` +
      `${timeouts} timed out`,
  );
}
