// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task races [library…]`: what caches answer when something happens between their steps.
 *
 * @module
 */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { misused, readOptions } from "../../tools/command_line.ts";
import type { RaceAdapter } from "./adapter.ts";
import { adaptersOf, libraries } from "./adapters.ts";
import { historiesOf, remarksOn, tableOf } from "./report.ts";
import { type RaceResult, runRaces } from "./run.ts";

const COMMAND = {
  name: "deno task races",
  help: `deno task races [LIBRARY…] [--adapter FILE] [--json]

What caches answer when something happens between their steps, on a Redis and a Postgres of their own. Prints
what happened in each race, and a table. Exits with 1 if a read was stale, or a load was made twice, in
--adapter or in Lookaside.

  LIBRARY         ${libraries.join(", ")} (all)
  --adapter FILE  your own cache, as docs/how-to/race-your-cache.md describes; with no LIBRARY, it alone
  --json          print JSON`,
  options: {
    adapter: { type: "string" },
    json: { type: "boolean", default: false },
  },
} as const;

const split = Deno.args.findIndex((each) => each.startsWith("-"));
const names = split < 0 ? Deno.args : Deno.args.slice(0, split);
const values = readOptions(COMMAND, Deno.args.slice(names.length));
const unknown = names.find((name) => !libraries.includes(name));
if (unknown !== undefined) misused(COMMAND, `Cannot race ${unknown}: there is no such library`);
const own = values.adapter === undefined ? [] : [await importAdapter(values.adapter)];
const chosen = names.length === 0 && own.length === 0 ? libraries : names;
const adapters = [...await adaptersOf(chosen), ...own];
const startedAtMs = performance.now();
const results = await runRaces(adapters);
print(results);
// A peer that loses is the outcome that was asked for.
const judged = ["Lookaside", ...own.map(({ name }) => name)];
Deno.exit(results.some(({ library, kept }) => !kept && judged.includes(library)) ? 1 : 0);

async function importAdapter(path: string): Promise<RaceAdapter> {
  const { adapter } = await import(pathToFileURL(resolve(path)).href);
  const isAdapter = typeof adapter?.name === "string" && typeof adapter.open === "function";
  if (!isAdapter) {
    misused(COMMAND, `Cannot use ${path}: it exports no adapter with a name and open()`);
  }
  return adapter;
}

function print(results: readonly RaceResult[]): void {
  const described = adapters.map(({ name, version, docs, note }) => ({
    name,
    version,
    docs,
    note,
  }));
  if (values.json) {
    console.log(JSON.stringify({ libraries: described, results }, undefined, 1));
    return;
  }
  const about = described.map(({ name, version, note, docs }) =>
    [`${name}${version === undefined ? "" : ` ${version}`}`, note, docs].filter(Boolean).join(", ")
  );
  const seconds = ((performance.now() - startedAtMs) / 1_000).toFixed(1);
  console.log(historiesOf(results));
  console.log(`\n${about.join("\n")}\n\n${tableOf(adapters, results)}\n`);
  console.log(`${remarksOn(results)}\n\n${seconds} s`);
}
