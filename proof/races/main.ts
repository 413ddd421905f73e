#!/usr/bin/env node
// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task races [library…]`, and `npx @lookaside/races`: the answers of caches when something happens between
 * their steps.
 *
 * @module
 */
import { resolve } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import type { RaceAdapter } from "./adapter.ts";
import { adaptersOf, libraries, MisuseError } from "./adapters.ts";
import { historiesOf, remarksOn, tableOf } from "./report.ts";
import { type RaceResult, runRaces } from "./run.ts";

const HELP = `npx @lookaside/races [LIBRARY…] [--adapter FILE] [--database URL] [--json]

Drives caches through the same interleavings on a Redis and a Postgres that it starts for them, and prints
what happened in each race, and a table. Needs redis-server, initdb and postgres on this machine. In a clone
of Lookaside, this program is \`deno task races\`.

  LIBRARY         ${libraries.join(", ")}; default: all
  --adapter FILE  your own cache (see docs/how-to/race-your-cache.md); without a LIBRARY, only yours
  --database URL  create the databases in this Postgres, and drop them afterwards, instead of starting one
  --json          print JSON

Exits with 1 if your cache or Lookaside answered a stale value or loaded a value twice.`;

/** The exit code for invalid arguments. */
const MISUSE = 2;

/** Ends the races early, so that nothing is left of them. The reason is the exit code. */
const stop = new AbortController();
// More than once, since `deno task` and `npx` pass on what the terminal has sent as well.
process.on("SIGINT", () => stop.abort(130));
process.on("SIGTERM", () => stop.abort(143));

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (stop.signal.aborted) process.exit(stop.signal.reason);
  const { message = String(error), code } = error as { message?: string; code?: string };
  const isMisuse = error instanceof MisuseError || code?.startsWith("ERR_PARSE_ARGS");
  // Errors without this program's own message are defects of an adapter or of this program.
  const isTold = isMisuse || message.startsWith("Cannot race: ");
  console.error(isTold ? message : error);
  process.exitCode = isMisuse ? MISUSE : 1;
}
process.exit(); // a library may have left something open

async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      adapter: { type: "string" },
      database: { type: "string" },
      json: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const own = values.adapter === undefined ? [] : [await importAdapter(values.adapter)];
  const chosen = positionals.length === 0 && own.length === 0 ? libraries : positionals;
  const adapters = [...await adaptersOf(chosen), ...own];
  const startedAtMs = performance.now();
  const results = await runRaces(adapters, values.database, stop.signal);
  const seconds = ((performance.now() - startedAtMs) / 1_000).toFixed(1);
  if (values.json) console.log(jsonOf(adapters, results));
  else console.log(`${textOf(adapters, results)}\n\n${seconds} s`);
  // The failure of a peer is a valid result.
  const judged = ["Lookaside", ...own.map(({ name }) => name)];
  return results.some(({ library, kept }) => !kept && judged.includes(library)) ? 1 : 0;
}

async function importAdapter(path: string): Promise<RaceAdapter> {
  const { adapter } = await import(pathToFileURL(resolve(path)).href);
  const isAdapter = typeof adapter?.name === "string" && typeof adapter.open === "function";
  if (isAdapter) return adapter;
  throw new MisuseError(`Cannot use ${path}: it exports no \`adapter\` with a name and open()`);
}

function jsonOf(adapters: readonly RaceAdapter[], results: readonly RaceResult[]): string {
  const described = adapters.map(({ name, version, docs, note }) => ({
    name,
    version,
    docs,
    note,
  }));
  return JSON.stringify({ libraries: described, results }, undefined, 1);
}

function textOf(adapters: readonly RaceAdapter[], results: readonly RaceResult[]): string {
  const about = adapters.map(({ name, version, note, docs }) =>
    [`${name}${version === undefined ? "" : ` ${version}`}`, note, docs].filter(Boolean).join(", ")
  );
  const parts = [about.join("\n"), tableOf(adapters, results), remarksOn(results)];
  return [historiesOf(results), ...parts].join("\n\n");
}
