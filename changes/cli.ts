#!/usr/bin/env node
/**
 * `npx @lookaside/changes`: prints the SQL, watches tables, and shows their status.
 *
 * @module
 */
import { createRequire } from "node:module";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { changesDatabase } from "./adapters/any_database.ts";
import type { ChangesDatabase } from "./database.ts";
import { checkWatched, installChanges, outdated } from "./install.ts";
import { partsOf } from "./names.ts";
import { sqlStateOf } from "./_sqlstate.ts";
import { changesSql } from "./schema.ts";
import { qualifiedName, textArray } from "./_sql_text.ts";

const HELP = `npx @lookaside/changes COMMAND

  sql                         prints the SQL of the change feed, for psql or a migration
  install [--service ROLE]    runs it, and grants ROLE what it needs to relay, and nothing more
  watch TABLE [COLUMN…]       records changes to a table, with the values of these columns
      --key COLUMN,…            identifies rows by another unique key than the primary key
      --matter COLUMN,…         ignores an UPDATE that changes none of the key, COLUMN… and these
  unwatch TABLE               stops recording changes to it
  status                      shows what is watched, what is wrong, and which caches follow

The database is that of DATABASE_URL, or --database URL. Without either, watch and unwatch print their
statement. Requires pg or postgres to be installed in this project.
`;

/** The number of arguments that a command takes at most, and its options. */
const COMMANDS: ReadonlyMap<string, readonly [argumentsMax: number, ...options: string[]]> =
  new Map([
    ["help", [Infinity]],
    ["sql", [0]],
    ["install", [0, "database", "service"]],
    ["watch", [Infinity, "database", "key", "matter"]],
    ["unwatch", [1, "database"]],
    ["status", [0, "database"]],
  ]);
const NOT_PERMITTED =
  "Connect as the owner of the tables, who installs with CREATE on the database; for status, as the service";
/** The time in which connections of `postgres` must close: it waits for ever for one that was lost. */
const END_TIMEOUT_S = 5;

/** The environment of a command. */
export interface Surroundings {
  /** The address of the database, if given. */
  readonly url: string | undefined;
  /** Connects to it. */
  readonly connect: (url: string) => Promise<ChangesDatabase & AsyncDisposable>;
  /** Prints. */
  readonly print: (text: string) => void;
}

/** Runs a command. Answers its exit code. */
export async function run(args: readonly string[], around: Surroundings): Promise<number> {
  const text = { type: "string" } as const;
  const help = { type: "boolean", short: "h" } as const;
  const { values, positionals: [command = "help", ...rest] } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { key: text, matter: text, database: text, service: text, help },
  });
  const { print } = around;
  if (!values.help) checkArguments(command, rest, values);
  if (values.help || command === "help" || command === "sql") {
    print(command === "sql" && !values.help ? changesSql : HELP);
    return 0;
  }
  const url = urlOf(values.database, around.url);
  if (command === "watch" || command === "unwatch") {
    const statement = statementOf(command, rest, values);
    if (url === undefined) print(`${statement};\n`);
    else {await withDatabase({ ...around, url }, (database) =>
        execute(database, command, statement, print));}
  } else if (url === undefined) {
    throw new TypeError("Cannot connect: set DATABASE_URL, or --database URL");
  } else if (command === "install") {
    await withDatabase({ ...around, url }, async (database) => {
      const problems = await installChanges(
        database,
        values.service === undefined ? {} : { service: values.service },
      );
      print("installed\n");
      for (const { label, problem, remedy } of problems) print(`${label}: ${problem}. ${remedy}\n`);
    });
  } else return await withDatabase({ ...around, url }, (database) => status(database, print));
  return 0;
}

/** Refuses what a command would ignore. */
function checkArguments(command: string, rest: readonly string[], values: object): void {
  const takes = COMMANDS.get(command);
  if (takes === undefined) {
    throw new TypeError(`Cannot ${command}: there is no such command; see --help`);
  }
  const [argumentsMax, ...options] = takes;
  const left = rest[argumentsMax] ?? Object.keys(values).find((name) => !options.includes(name));
  if (left === undefined) return;
  const kind = rest.length > argumentsMax ? "argument " : "option --";
  throw new TypeError(`Cannot ${command}: unexpected ${kind}${left}`);
}

/** The address that is given, if one is. The drivers would read another text in their own ways. */
function urlOf(option: string | undefined, variable: string | undefined): string | undefined {
  const url = option ?? (variable || undefined); // an empty variable is as good as none
  if (url === undefined || /^(postgres(ql)?:|socket:|\/)/.test(url)) return url;
  throw new TypeError("Cannot connect: the address of a database begins with postgres://");
}

function statementOf(
  command: "watch" | "unwatch",
  [name, ...columns]: readonly string[],
  { key, matter }: { readonly key?: string | undefined; readonly matter?: string | undefined },
): string {
  if (name === undefined) throw new TypeError(`Cannot ${command}: name a table`);
  const relation = qualifiedName(unquoted(name) ?? partsOf(name));
  if (command === "unwatch") return `SELECT lookaside.unwatch(${relation}) AS changed`;
  const options = [`columns => ${textArray(columns)}`];
  if (key !== undefined) options.push(`key => ${textArray(key.split(","))}`);
  if (matter !== undefined) options.push(`matter => ${textArray(matter.split(","))}`);
  return `SELECT lookaside.watch(${[relation, ...options].join(", ")}) AS changed`;
}

/** The schema and the table of a name that is quoted as in SQL, if it is. */
function unquoted(name: string): readonly [schema: string, table: string] | undefined {
  if (!name.includes('"')) return undefined;
  const part = '(?:"((?:[^"]|"")+)"|([^".]+))';
  const found = new RegExp(`^(?:${part}\\.)?${part}$`, "u").exec(name);
  if (found === null) return undefined; // its name has quotes in it
  const [, schema, plainSchema = "public", table, plainTable = ""] = found;
  const of = (quoted: string | undefined, plain: string) => quoted?.replaceAll('""', '"') ?? plain;
  return [of(schema, plainSchema), of(table, plainTable)];
}

async function execute(
  database: ChangesDatabase,
  command: "watch" | "unwatch",
  statement: string,
  print: Surroundings["print"],
): Promise<void> {
  const [row] = await database.query<{ changed: boolean }>(statement);
  print(row?.changed ? `${command}ed\n` : `nothing to do: it is ${command}ed\n`);
}

async function status(database: ChangesDatabase, print: Surroundings["print"]): Promise<number> {
  const old = await outdated(database);
  if (old !== undefined) print(`WRONG: ${old.problem}. ${old.remedy}\n`);
  const problems = new Map((await checkWatched(database)).map((each) => [each.label, each]));
  const watched = await database.query<{ label: string; name: string; about: string }>(
    `SELECT label, pg_catalog.format('%I.%I', table_schema, table_name) AS name,
       pg_catalog.format('key (%s), columns (%s)%s', pg_catalog.array_to_string(key, ', '),
       pg_catalog.array_to_string(columns, ', '), ', only if they or (' || pg_catalog.array_to_string(matter, ', ') || ') change')
       AS about FROM lookaside.watched ORDER BY label`,
  );
  for (const { label, name, about } of watched) {
    const shown = label.includes("#") ? `${label} (${name})` : label; // a hash says nothing
    const wrong = problems.get(label);
    print(`${shown}: ${about}${wrong ? `\n  WRONG: ${wrong.problem}. ${wrong.remedy}` : ""}\n`);
  }
  const caches = await database.query<{ name: string; seen: string | null }>(
    `SELECT c.name, (SELECT extract(epoch FROM clock_timestamp() - max(l.at))::numeric(12, 1)::text
       FROM lookaside.looks l WHERE l.cache = c.id) AS seen FROM lookaside.caches c ORDER BY c.name`,
  );
  for (const { name, seen } of caches) {
    print(`cache ${name}: ${seen === null ? "has not looked" : `last looked ${seen} s ago`}\n`);
  }
  if (watched.length === 0) print("no table is watched\n");
  return problems.size === 0 && old === undefined ? 0 : 1;
}

async function withDatabase<T>(
  { url, connect }: Surroundings & { readonly url: string },
  work: (database: ChangesDatabase) => Promise<T>,
): Promise<T> {
  const database = await connect(url); // without `await using`, which Node 22 lacks
  try {
    return await work(database);
  } finally {
    await database[Symbol.asyncDispose]();
  }
}

/** Connects with the driver that the project has installed. */
async function connectFrom(
  directory: string,
  url: string,
): Promise<ChangesDatabase & AsyncDisposable> {
  const require = createRequire(pathToFileURL(`${directory}/`));
  for (const name of ["pg", "postgres"]) {
    let path: string;
    try {
      path = require.resolve(name);
    } catch {
      continue; // not installed
    }
    const driver = (await import(pathToFileURL(path).href)).default;
    if (name === "postgres") {
      const sql = driver(url, { prepare: false, fetch_types: false, onnotice: () => undefined });
      const end = () => sql.end({ timeout: END_TIMEOUT_S });
      return { ...changesDatabase(sql), [Symbol.asyncDispose]: end };
    }
    const pool = new driver.Pool({ connectionString: url });
    pool.on("error", () => undefined); // the next statement says it
    return { ...changesDatabase(pool), [Symbol.asyncDispose]: () => pool.end() };
  }
  throw new TypeError("Cannot connect: install pg or postgres in this project");
}

/** True if this file was started as a program, not imported. */
function isStarted(): boolean {
  const started = process.argv[1];
  return started !== undefined && /(^|[/\\])(cli\.[jt]s|lookaside-changes)$/.test(started);
}

/** An error as its reader needs it: the reason, and what to do. */
export function explained(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Of a name with several addresses, each has failed, and the whole has no text.
  const { message = "" } = error instanceof AggregateError ? error.errors[0] ?? error : error;
  const state = sqlStateOf(error);
  if (/^(3F000|42P01)$/.test(state) && /"lookaside[".]/.test(message)) {
    return "There is no schema lookaside in this database: npx @lookaside/changes install";
  }
  const { hint = state === "42501" ? NOT_PERMITTED : undefined } = error as { hint?: string };
  return hint === undefined ? message : `${message}\n${hint}`;
}

async function main(): Promise<void> {
  const fail = (error: unknown): void => {
    process.stderr.write(`${explained(error)}\n`);
    process.exitCode = 1;
  };
  // A reader that has seen enough, such as `head`, does not end an installation half-way.
  process.stdout.on("error", (error) => sqlStateOf(error) === "EPIPE" || fail(error));
  process.stderr.on("error", () => undefined);
  try {
    const code = await run(process.argv.slice(2), {
      url: process.env["DATABASE_URL"],
      connect: (url) => connectFrom(process.cwd(), url),
      print: (text) => void process.stdout.write(text),
    });
    if (code !== 0) process.exitCode = code;
  } catch (error) {
    fail(error);
  }
}

if (isStarted()) await main();
