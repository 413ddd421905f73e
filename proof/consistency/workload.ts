/**
 * Writers that give each user an increasing version, and readers of every instance.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import type postgres from "postgres";
import type { Checker, ReadPath } from "./checker.ts";
import { type Cluster, nameOf } from "./cluster.ts";
import type { Random } from "./nemesis.ts";

const REQUEST_TIMEOUT_MS = 10_000;
/** One write in this many goes past the service. */
const SQL_EVERY = 4;
/** One read in this many requests a page. */
const PAGE_EVERY = 25;
const PAGE_LIMIT = 50;

/** The results of one kind of request. */
export interface Availability {
  asked: number;
  answered: number;
}

/** The common state of the workers of a run. */
export interface Workload {
  readonly cluster: Cluster;
  readonly checker: Checker;
  readonly sql: postgres.Sql;
  readonly random: Random;
  readonly signal: AbortSignal;
  readonly keysCount: number;
  readonly counts: Readonly<Record<"read" | "page" | "write" | "sql", Availability>>;
}

/** Makes counts of zero. */
export function noCounts(): Workload["counts"] {
  const none = (): Availability => ({ asked: 0, answered: 0 });
  return { read: none(), page: none(), write: none(), sql: none() };
}

/**
 * Writes versions of the keys whose index modulo `writersCount` is `index`, one after the other. After an
 * unknown outcome, a higher version follows.
 */
export async function writeOn(work: Workload, index: number, writersCount: number): Promise<void> {
  const { random, signal, keysCount, counts } = work;
  for (let version = 1; !signal.aborted; version++) {
    const key = 1 + index +
      writersCount * Math.floor(random() * Math.floor(keysCount / writersCount));
    const viaSql = random() < 1 / SQL_EVERY;
    const kind = viaSql ? "sql" : "write";
    counts[kind].asked++;
    try {
      const done = viaSql
        ? await writeBySql(work, key, version)
        : await writeByApi(work, key, version);
      if (done) counts[kind].answered++;
    } catch (_error) {
      // Unknown: it may be committed. There is no guarantee, so nothing is checked.
    }
    await delay(5 + 20 * random());
  }
}

async function writeByApi(work: Workload, key: number, version: number): Promise<boolean> {
  const { cluster, checker, random } = work;
  const at = Math.floor(random() * cluster.instances.length);
  const instance = nameOf(cluster, at);
  const startMs = performance.now();
  const response = await cluster.instances[at]?.service.fetch(`/users/${key}`, {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name: "N", email: "n@example.com", bio: `v${version}` }),
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  });
  const text = await response?.text() ?? "";
  if (response?.status !== 200) return false;
  const endMs = performance.now();
  const via = text.includes("invalidation pending") ? "pending" : "api";
  checker.write({ key, version, via, instance, startMs, endMs });
  return true;
}

async function writeBySql(work: Workload, key: number, version: number): Promise<boolean> {
  const startMs = performance.now();
  await work.sql`UPDATE users SET bio = ${`v${version}`} WHERE id = ${key}`;
  const endMs = performance.now();
  work.checker.write({ key, version, via: "sql", instance: "", startMs, endMs });
  return true;
}

/** Reads random users, and sometimes a page, through one instance. */
export async function readOn(work: Workload, at: number): Promise<void> {
  const { random, signal, counts, keysCount } = work;
  while (!signal.aborted) {
    const page = random() < 1 / PAGE_EVERY;
    const kind = page ? "page" : "read";
    counts[kind].asked++;
    try {
      const path = page
        ? `/users?page=1&limit=${PAGE_LIMIT}`
        : `/users/${1 + Math.floor(random() * keysCount)}`;
      if (await readOnce(work, at, path)) counts[kind].answered++;
    } catch (_error) {
      await delay(20); // the instance is being restarted
    }
  }
}

async function readOnce(work: Workload, at: number, path: string): Promise<boolean> {
  const { cluster, checker } = work;
  const instance = nameOf(cluster, at);
  const startMs = performance.now();
  const response = await cluster.instances[at]?.service.fetch(path, {
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  });
  const answer = await response?.json();
  const endMs = performance.now();
  if (response?.status !== 200) return false;
  const isPage = Array.isArray(answer.data);
  const how = isPage ? "page" : pathOf(response);
  for (const { id, bio } of isPage ? answer.data : [answer.data]) {
    checker.read({ key: id, version: versionOf(bio), path: how, instance, startMs, endMs });
  }
  return true;
}

function pathOf(response: Response): ReadPath {
  const detail = /detail=(\w+)/.exec(response.headers.get("cache-status") ?? "")?.[1];
  if (detail === "memory" || detail === "redis" || detail === "database") return detail;
  throw new Error(`Cannot tell the path of an answer: ${response.headers.get("cache-status")}`);
}

/** The version in a bio; 0 for the seeded one. */
export function versionOf(bio: unknown): number {
  return Number(/^v(\d+)$/.exec(String(bio))?.[1] ?? 0);
}
