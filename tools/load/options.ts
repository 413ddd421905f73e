/**
 * The options of `deno task load`.
 *
 * @module
 */
import { misused, readOptions } from "../command_line.ts";
import { type Fault, type FaultName, FAULTS } from "./faults.ts";

const REPORT_FILE = "load-report.html";
const FAULT_SECONDS = 5;

const COMMAND = {
  name: "deno task load",
  help: `deno task load [--url URL] [--seconds NUMBER] [--json] [--report [FILE] [FAULT]]

Measures what the cache is worth: runs the same load on a running service and on one that it starts with
CACHE=off. Clears the cache. If the service has an ADMIN_TOKEN, set the same one here.

  --url URL         the service (http://127.0.0.1:3000)
  --seconds NUMBER  how long the steady load lasts, 1 to 600 (5)
  --json            the table as JSON
  --report [FILE]   also write a page with charts of a steady load (${REPORT_FILE})

Break a server for five seconds during the report's load; the servers are started for it:
  --kill-redis-at 10s
  --hang-redis-at 10s
  --stop-postgres-at 10s`,
  options: {
    url: { type: "string", default: "http://127.0.0.1:3000" },
    seconds: { type: "string", default: "5" },
    json: { type: "boolean", default: false },
    report: { type: "string" },
    "kill-redis-at": { type: "string" },
    "hang-redis-at": { type: "string" },
    "stop-postgres-at": { type: "string" },
  },
} as const;

export interface LoadOptions {
  /** The service with the cache. */
  readonly url: string;
  /** Duration of the steady loads. */
  readonly seconds: number;
  /** True if the table is for machines. */
  readonly json: boolean;
  /** The file for the page with charts. */
  readonly report?: string;
  /** The fault in the middle. */
  readonly fault?: Fault;
}

/** Reads the command line. Ends the process if it is invalid. */
export function loadOptions(args: readonly string[]): LoadOptions {
  const options = optionsFrom(args);
  return typeof options === "string" ? misused(COMMAND, `Cannot measure: ${options}`) : options;
}

/** The options, or what is wrong with them. */
function optionsFrom(args: readonly string[]): LoadOptions | string {
  const values = readOptions(
    COMMAND,
    // `--report` without a value gets the usual name.
    args.flatMap((arg, at) =>
      arg === "--report" && (args[at + 1] ?? "--").startsWith("--") ? [arg, REPORT_FILE] : [arg]
    ),
  );
  const seconds = Number(values.seconds);
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > 600 || !URL.canParse(values.url)) {
    return "--url takes a URL, --seconds a whole number from 1 to 600";
  }
  const faults: Fault[] = [];
  for (const name of Object.keys(FAULTS) as FaultName[]) {
    const text = values[name];
    if (text === undefined) continue;
    const atS = Number(/^(\d{1,3})s?$/.exec(text)?.[1] ?? NaN);
    if (!(atS >= 1)) return `--${name} takes seconds from 1 to 999, as in 10s`;
    faults.push({ name, atS, forS: FAULT_SECONDS });
  }
  const [fault] = faults;
  if (faults.length > 1) return "one fault at a time";
  const { report } = values;
  if (fault !== undefined && report === undefined) return `--${fault.name} needs --report`;
  const asked = { url: values.url, seconds, json: values.json };
  return { ...asked, ...(report === undefined ? {} : { report }), ...(fault ? { fault } : {}) };
}
