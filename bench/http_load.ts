/**
 * Load over HTTP: wrk where it is installed, else autocannon. One generator for every contender.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import autocannon from "autocannon";
import { USERS_COUNT } from "./users.ts";

const CONNECTIONS = 32;
const rotation = fileURLToPath(new URL("servers/rotate.lua", import.meta.url));

/** What is asked for: one user over and over, or all of them in turn. */
export type Paths = "one user" | "all users";

/** Makes the load. */
export interface LoadGenerator {
  /** Which program it is. */
  readonly name: string;
  /** Requests per second that `origin` answers over some seconds. */
  readonly run: (origin: string, paths: Paths) => Promise<number>;
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

async function wrk(origin: string, paths: Paths, seconds: number): Promise<number> {
  const { stdout } = await new Deno.Command("wrk", {
    args: [
      ...["-t1", `-c${CONNECTIONS}`, `-d${seconds}s`],
      ...(paths === "all users" ? ["-s", rotation] : []),
      `${origin}/users/1`,
    ],
  }).output();
  const text = new TextDecoder().decode(stdout);
  const rate = Number(/^Requests\/sec:\s+([\d.]+)/m.exec(text)?.[1]);
  const failed = /Non-2xx|Socket errors/.test(text);
  if (failed || !(rate > 0)) throw new Error(`Cannot measure ${origin}:\n${text}`);
  return rate;
}

async function cannon(origin: string, paths: Paths, seconds: number): Promise<number> {
  const ids = paths === "one user" ? [1] : Array.from({ length: USERS_COUNT }, (_, at) => at + 1);
  const result = await autocannon({
    url: origin,
    connections: CONNECTIONS,
    duration: seconds,
    requests: ids.map((id) => ({ path: `/users/${id}` })),
  });
  if (result.non2xx + result.errors > 0) throw new Error(`Cannot measure ${origin}: it fails`);
  return result.requests.average;
}
