/**
 * Load over HTTP: wrk where it is installed, else autocannon. One generator for every contender.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import autocannon from "autocannon";
import { USERS_COUNT } from "./users.ts";

const CONNECTIONS = 32;
const scriptOf = (name: string): string =>
  fileURLToPath(new URL(`servers/${name}.lua`, import.meta.url));

/** What is asked for: one user over and over, all in turn, or those behind an id, each once. */
export type Paths = "one user" | "all users" | { readonly behind: number };

/** What was answered. */
export interface Load {
  readonly requests: number;
  readonly seconds: number;
}

/** Makes the load. */
export interface LoadGenerator {
  /** Which program it is. */
  readonly name: string;
  /** Loads `origin` for some seconds. */
  readonly run: (origin: string, paths: Paths) => Promise<Load>;
}

/** The generator of this machine. */
export async function loadGenerator(seconds: number): Promise<LoadGenerator> {
  if (await hasWrk()) {
    return { name: "wrk -t1 -c32", run: (origin, paths) => wrk(origin, paths, seconds) };
  }
  return { name: "autocannon -c 32", run: (origin, paths) => cannon(origin, paths, seconds) };
}

async function hasWrk(): Promise<boolean> {
  try {
    await new Deno.Command("wrk", { args: ["--version"] }).output();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function wrk(origin: string, paths: Paths, seconds: number): Promise<Load> {
  const script = paths === "one user"
    ? []
    : ["-s", scriptOf(paths === "all users" ? "rotate" : "each_once")];
  const { stdout } = await new Deno.Command("wrk", {
    args: [
      ...["-t1", `-c${CONNECTIONS}`, `-d${seconds}s`, ...script, `${origin}/users/1`],
      ...(typeof paths === "object" ? ["--", String(paths.behind)] : []),
    ],
  }).output();
  const text = new TextDecoder().decode(stdout);
  const [, requests, took] = /(\d+) requests in ([\d.]+)s/.exec(text) ?? [];
  const failed = /Non-2xx|Socket errors/.test(text);
  if (failed || !(Number(requests) > 0)) throw new Error(`Cannot measure ${origin}:\n${text}`);
  return { requests: Number(requests), seconds: Number(took) };
}

async function cannon(origin: string, paths: Paths, seconds: number): Promise<Load> {
  const { count, behind } = typeof paths === "object"
    ? { count: 100_000, behind: paths.behind }
    : { count: paths === "one user" ? 1 : USERS_COUNT, behind: 0 };
  const result = await autocannon({
    url: origin,
    connections: CONNECTIONS,
    duration: seconds,
    requests: Array.from({ length: count }, (_, at) => ({ path: `/users/${behind + at + 1}` })),
  });
  if (result.non2xx + result.errors > 0) throw new Error(`Cannot measure ${origin}: it fails`);
  return { requests: result["2xx"], seconds: result.duration };
}
