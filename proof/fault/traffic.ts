/**
 * A steady load of readers and writers; every answer is recorded and checked.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { Checker, type ReadPath } from "../consistency/checker.ts";
import { randomOf } from "../consistency/nemesis.ts";
import { versionOf } from "../consistency/workload.ts";
import { KEYS_COUNT, MEMORY_LEASE_MS, type World } from "./world.ts";

const READERS = 8;
const WRITERS = 2;
/** Longest pause of a reader between requests; half of that on average. */
const READER_RESTS_MS = 32;
/** Limit of running requests of one reader, which does not wait for answers. */
const READER_REQUESTS_MAX = 50;
/** Longest pause of a writer between an answer and the next request. */
const WRITER_RESTS_MS = 150;
/** One read in this many requests a page. */
const PAGE_EVERY = 25;
/** Connections opened by a burst are closed after this time, so that they do not count against the service. */
const CONNECTION_IDLE_MS_MAX = 5_000;
/** Time that running requests have at the end of the load. */
const DRAIN_MS = 20_000;

/** One request. Times are milliseconds of one monotonic clock. */
export interface Sample {
  /** The index of the instance. */
  readonly at: number;
  readonly kind: "read" | "write";
  readonly startMs: number;
  readonly endMs: number;
  /** The status; 0 if there was no answer. */
  readonly status: number;
  /** The path of a read's answer. */
  readonly path: ReadPath | undefined;
  /** True if a refusal had `Retry-After`. */
  readonly retryAfter: boolean;
}

/** A load that goes on until it is stopped. */
export interface Traffic extends AsyncDisposable {
  /** Answered requests, in the order of their answers. */
  readonly samples: Sample[];
  readonly checker: Checker;
  /** Sends no more, and waits for running requests. */
  stop(): Promise<void>;
}

interface Work {
  readonly world: World;
  readonly checker: Checker;
  readonly random: () => number;
  readonly samples: Sample[];
  readonly abandon: AbortSignal;
  readonly client: Deno.HttpClient;
  /** The newest version of any user. */
  version: number;
  stopped: boolean;
}

/** Starts a load on every instance of a world. */
export function startTraffic(world: World, seed: number): Traffic {
  const abandon = new AbortController();
  const client = Deno.createHttpClient({ poolIdleTimeout: CONNECTION_IDLE_MS_MAX });
  const work: Work = {
    world,
    checker: new Checker(MEMORY_LEASE_MS),
    random: randomOf(seed),
    samples: [],
    client,
    abandon: abandon.signal,
    version: versionBase(),
    stopped: false,
  };
  const workers = Promise.all([
    ...Array.from({ length: READERS }, (_, i) => readOn(work, i % world.instances.length)),
    ...Array.from({ length: WRITERS }, (_, i) => writeOn(work, i)),
  ]);
  const end = async () => {
    work.stopped = true;
    const timer = setTimeout(() => abandon.abort(), DRAIN_MS);
    await workers;
    clearTimeout(timer);
    client.close();
  };
  let ending: Promise<void> | undefined;
  const stop = () => ending ??= end();
  return {
    samples: work.samples,
    checker: work.checker,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** A version above all that earlier loads on the same world have written. */
function versionBase(): number {
  return Math.floor(performance.now() * 1_000);
}

/**
 * Sends requests at a fixed pace. If a reader waited for answers, slow answers would reduce the load, and one
 * missing answer would hide the others.
 */
async function readOn(work: Work, at: number): Promise<void> {
  const { random } = work;
  const underWay = new Set<Promise<void>>();
  while (!work.stopped) {
    const path = random() < 1 / PAGE_EVERY
      ? "/users?page=1&limit=20"
      : `/users/${1 + Math.floor(random() * KEYS_COUNT)}`;
    const reading: Promise<void> = read(work, at, path).finally(() => underWay.delete(reading));
    underWay.add(reading);
    if (underWay.size >= READER_REQUESTS_MAX) await Promise.race(underWay);
    await delay(random() * READER_RESTS_MS);
  }
  await Promise.all(underWay);
}

async function read(work: Work, at: number, path: string): Promise<void> {
  const { world, checker } = work;
  const instance = lifeOf(world, at);
  const { status, text, headers, startMs, endMs } = await request(work, at, { path });
  let way: ReadPath | undefined;
  if (status === 200) {
    const { data } = JSON.parse(text);
    const isPage = Array.isArray(data);
    way = isPage ? "page" : wayOf(headers);
    for (const { id, bio } of isPage ? data : [data]) {
      checker.read({ key: id, version: versionOf(bio), path: way, instance, startMs, endMs });
    }
  }
  note(work, { at, kind: "read", startMs, endMs, status, path: way, headers });
}

/** Writes users whose index modulo the number of writers is `index`, one after the other. */
async function writeOn(work: Work, index: number): Promise<void> {
  const { world, checker, random } = work;
  for (let turn = 0; !work.stopped; turn++) {
    const key = 1 + index + WRITERS * Math.floor(random() * (KEYS_COUNT / WRITERS));
    const version = ++work.version;
    const at = turn % world.instances.length;
    const instance = lifeOf(world, at);
    const { status, text, headers, startMs, endMs } = await request(work, at, {
      path: `/users/${key}`,
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name: "N", email: "n@example.com", bio: `v${version}` }),
    });
    if (status === 200) {
      const via = text.includes("invalidation pending") ? "pending" : "api";
      checker.write({ key, version, via, instance, startMs, endMs });
    }
    note(work, { at, kind: "write", startMs, endMs, status, path: undefined, headers });
    await delay(random() * WRITER_RESTS_MS);
  }
}

interface Answered {
  readonly status: number;
  readonly text: string;
  readonly headers: Headers;
  readonly startMs: number;
  readonly endMs: number;
}

async function request(
  { world, abandon, client }: Work,
  at: number,
  { path, ...init }: RequestInit & { readonly path: string },
): Promise<Answered> {
  const startMs = performance.now();
  try {
    const target = world.instances[at]?.target;
    if (target === undefined) throw new RangeError(`Cannot send to instance ${at}: there is none`);
    const response = await target.fetch(path, { ...init, client, signal: abandon });
    const { status, headers } = response;
    const text = await response.text();
    return { status, text, headers, startMs, endMs: performance.now() };
  } catch (error) {
    if (error instanceof RangeError) throw error;
    // No answer: the instance is gone or too slow.
    const endMs = performance.now();
    return { status: 0, text: String(error), headers: new Headers(), startMs, endMs };
  }
}

function note({ samples }: Work, { headers, ...rest }: Omit<Sample, "retryAfter"> & {
  readonly headers: Headers;
}): void {
  samples.push({ ...rest, retryAfter: /^\d+$/.test(headers.get("retry-after") ?? "") });
}

function wayOf(headers: Headers): ReadPath {
  const detail = /detail=(\w+)/.exec(headers.get("cache-status") ?? "")?.[1];
  if (detail === "memory" || detail === "redis" || detail === "database") return detail;
  throw new Error(`Cannot tell the way of an answer: ${headers.get("cache-status")}`);
}

/** Names an instance and its current life. */
function lifeOf({ instances }: World, at: number): string {
  return `${at}.${instances[at]?.life ?? 0}`;
}
