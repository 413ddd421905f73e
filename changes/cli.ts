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
import { type AnyDatabase, changesDatabase } from "./adapters/any_database.ts";
import type { ChangesDatabase } from "./database.ts";
import { checkWatched, installChanges, outdated } from "./install.ts";
import { partsOf } from "./names.ts";
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
  const url = values.database ?? around.url;
  const { print } = around;
  if (!values.help) checkCount(command, rest);
  if (values.help || command === "help") print(HELP);
  else if (command === "sql") print(changesSql);
  else if (command === "watch" || command === "unwatch") {
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
  } else if (command === "status") {
    return await withDatabase({ ...around, url }, (database) => status(database, print));
  } else throw new TypeError(`Cannot ${command}: there is no such command; see --help`);
  return 0;
}

/** Refuses arguments that a command would ignore. */
function checkCount(command: string, rest: readonly string[]): void {
  const countMax = { watch: Infinity, unwatch: 1, sql: 0, install: 0, status: 0 }[command];
  const left = countMax === undefined ? undefined : rest[countMax];
  if (left !== undefined) throw new TypeError(`Cannot ${command}: unexpected argument ${left}`);
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
    const pool: AnyDatabase & { end(): Promise<void> } = name === "pg"
      ? new driver.Pool({ connectionString: url })
      : driver(url, { prepare: false, onnotice: () => undefined });
    return { ...changesDatabase(pool), [Symbol.asyncDispose]: () => pool.end() };
  }
  throw new TypeError("Cannot connect: install pg or postgres in this project");
}

/** True if this file was started as a program, not imported. */
function isStarted(): boolean {
  const started = process.argv[1];
  return started !== undefined && /(^|[/\\])(cli\.[jt]s|lookaside-changes)$/.test(started);
}

if (isStarted()) {
  try {
    process.exitCode = await run(process.argv.slice(2), {
      url: process.env["DATABASE_URL"],
      connect: (url) => connectFrom(process.cwd(), url),
      print: (text) => void process.stdout.write(text),
    });
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    process.exitCode = 1;
  }
}
