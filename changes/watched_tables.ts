import type { TableUse, WatchedTable } from "@lookaside/cache";
import { type ChangesDatabase, type Query, READS_COMMITTED } from "./database.ts";
import type { WatchProblem } from "./install.ts";
import { labelOf, partsOf, type TableName } from "./names.ts";
import { sqlStateOf } from "./_sqlstate.ts";
import { identifier, qualifiedName, textArray } from "./_sql_text.ts";

/** A table as Postgres describes it. */
interface Found {
  /** The types of its columns; `null`: the table does not exist. */
  readonly types: Readonly<Record<string, string>> | null;
  /** Its watch; `null`: it is not watched. */
  readonly watch: {
    readonly key: readonly string[];
    readonly columns: readonly string[];
    readonly matter: readonly string[] | null;
  } | null;
  /** True if the triggers of the watch are on the table and all its parts, and it is no part of another. */
  readonly isAttached: boolean;
}

/** Refusals of Postgres: privileges, the schema, a function or the table are missing. */
const REFUSED = /^(42|3F|0A|22|55000$|P0001$)/;

/** The refusal that another role does not meet with. */
const NO_PRIVILEGE = "42501";

/** Makes sure that the tables of a program are watched, with the columns that it uses. */
export class WatchedTables {
  readonly #database: ChangesDatabase;
  readonly #known = new Map<string, Promise<WatchedTable>>();
  readonly #uses = new Map<string, TableUse>();
  #labels = new Set<string>();

  /** Queries nothing yet. */
  constructor(database: ChangesDatabase) {
    this.#database = database;
  }

  /** Answers what is known of a table, asking for it once, and whether the answer is still awaited. */
  of(use: TableUse): { readonly table: Promise<WatchedTable>; readonly isNew: boolean } {
    const name = JSON.stringify([use.schema, use.name, use.key, use.columns]);
    const known = this.#known.get(name);
    if (known !== undefined) return { table: known, isNew: false };
    const asked = this.#ensure(use);
    this.#uses.set(name, use);
    this.#known.set(name, asked);
    // Failed questions are asked again. Refusals stay until the next check.
    asked.catch((error: unknown) => {
      if (!(error instanceof TypeError)) this.#known.delete(name);
    });
    return { table: asked, isNew: true };
  }

  /** True if there are tags, and all are names of watched tables. */
  cover(tags: readonly string[]): boolean {
    const labels = [...this.#labels];
    return tags.length > 0 &&
      tags.every((tag) => labels.some((label) => tag.startsWith(`${label}:`)));
  }

  /** Learns which tables are watched, by any program. */
  async learn(): Promise<void> {
    const rows = await this.#database.query<{ label: string }>(
      "SELECT label FROM lookaside.watched",
    );
    this.#labels = new Set(rows.map(({ label }) => label));
  }

  /**
   * Checks every table again. Answers those that are not watched, or may not be, with the errors.
   *
   * @throws Postgres cannot be asked.
   */
  async recheck(): Promise<{ readonly use: TableUse; readonly error: unknown }[]> {
    await this.learn();
    const lost: { use: TableUse; error: unknown }[] = [];
    for (const [name, use] of this.#uses) {
      try {
        const table = await this.#ensure(use);
        this.#known.set(name, Promise.resolve(table));
      } catch (error) {
        if (error instanceof TypeError) {
          const refused = Promise.reject(error);
          refused.catch(() => undefined); // its callers get the error
          this.#known.set(name, refused);
        } else {
          await this.learn(); // if this fails too, nothing is known of any table
          this.#known.delete(name);
        }
        lost.push({ use, error });
      }
    }
    return lost;
  }

  async #ensure(use: TableUse): Promise<WatchedTable> {
    const found = await this.#ask(this.#database.query, use);
    if (found.types === null) throw new TypeError(`${cannot(use)}: there is no such table`);
    for (const column of [...use.key, ...use.columns]) {
      if (!Object.hasOwn(found.types, column)) {
        throw new TypeError(`${cannot(use)}: it has no column ${JSON.stringify(column)}`);
      }
    }
    const isEnough = hasColumns(found, use);
    if (isEnough && !found.isAttached) await this.#repair(use);
    const watch = isEnough ? found.watch : await this.#watch(use);
    if (watch === null) throw new TypeError(`${cannot(use)}: it is not watched`);
    assertKey(use, watch.key);
    if (use.key.length === 0 && watch.matter !== null) {
      throw new TypeError(`${cannot(use)} as a whole: watch() leaves columns out of matter`);
    }
    const told = watch.matter === null
      ? undefined
      : [...watch.key, ...watch.columns, ...watch.matter];
    this.#labels.add(labelOf([use.schema, use.name]));
    const types = Object.entries(found.types).filter(([name]) => told?.includes(name) ?? true);
    return { columns: watch.columns, types: new Map(types) };
  }

  /**
   * Repairs a watched table, also for a role that may not watch. Ignores that somebody else is repairing it, or
   * holds a lock on it: the next check repairs it.
   *
   * @throws {TypeError} It cannot be repaired.
   */
  async #repair(use: TableUse): Promise<void> {
    const { query } = this.#database;
    const [found] = await query<WatchProblem>(
      "SELECT label, problem, remedy FROM lookaside.check() WHERE label = $1::text",
      [labelOf([use.schema, use.name])],
    ).catch((error) => {
      throw refusal(use, error);
    });
    if (found === undefined || found.problem.startsWith("Cannot lock ")) return;
    if ((await this.#ask(query, use)).isAttached) return;
    throw new TypeError(`${cannot(use)}: ${found.problem}. To repair it: ${found.remedy}`);
  }

  /** Watches a table with the columns of all its users. */
  async #watch(use: TableUse): Promise<Found["watch"]> {
    try {
      return await this.#database.transaction(async (query) => {
        await query(READS_COMMITTED);
        // Without the lock, one of two that each add a column would lose it.
        await query(
          "SELECT pg_advisory_xact_lock(hashtextextended('lookaside.watch ' || $1::text, 0::bigint))",
          [
            labelOf([use.schema, use.name]),
          ],
        );
        const { watch } = await this.#ask(query, use);
        const columns = [...new Set([...watch?.columns ?? [], ...use.columns])];
        await query(
          `SELECT lookaside.watch(pg_catalog.format('%I.%I', $1::text, $2::text)::regclass,
             ARRAY(SELECT json_array_elements_text($3::text::json)),
             CASE WHEN $4::text <> '[]' THEN ARRAY(SELECT json_array_elements_text($4::text::json)) END,
             CASE WHEN $5::text IS NOT NULL THEN ARRAY(SELECT json_array_elements_text($5::text::json)) END)`,
          [
            ...[use.schema, use.name, JSON.stringify(columns)],
            JSON.stringify(watch?.key ?? use.key),
            watch?.matter ? JSON.stringify(watch.matter) : null,
          ],
        );
        return (await this.#ask(query, use)).watch;
      });
    } catch (error) {
      throw refusal(use, error);
    }
  }

  async #ask(query: Query, { schema, name }: TableUse): Promise<Found> {
    try {
      const [row] = await query<{ found: string }>(FOUND_SQL, [schema, name]);
      return JSON.parse(row?.found ?? '{"types":null,"watch":null,"isAttached":false}');
    } catch (error) {
      const state = sqlStateOf(error);
      if (!REFUSED.test(state)) throw error;
      const remedy = state === NO_PRIVILEGE
        ? "Admit the role of this program, as the owner: npx @lookaside/changes install --service ROLE"
        : "Install them: npx @lookaside/changes sql | psql";
      throw new TypeError(`Cannot follow changes: ${messageOf(error)}. ${remedy}`, {
        cause: error,
      });
    }
  }
}

/**
 * Watches a table with these columns and those already watched.
 *
 * @throws {TypeError} The table or a column does not exist, or it cannot be watched.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { type ChangesDatabase, watchTable } from "@lookaside/changes";
 *
 * const query = <Row>() => Promise.resolve([{ found: '{"types":null}' } as Row]);
 * const database: ChangesDatabase = { query, transaction: (run) => run(query) };
 * await assert.rejects(watchTable(database, "nothing"), TypeError);
 * ```
 */
export async function watchTable(
  database: ChangesDatabase,
  table: TableName,
  { key = ["id"], columns = [] }: Partial<Pick<TableUse, "key" | "columns">> = {},
): Promise<WatchedTable> {
  const [schema, name] = partsOf(table);
  return await new WatchedTables(database).of({ schema, name, key, columns }).table;
}

/** The statement that watches a table as a program uses it. */
export function watchStatement({ schema, name, key, columns }: TableUse): string {
  const ofKey = key.length === 0 ? "" : `, key => ${textArray(key)}`;
  return `SELECT lookaside.watch(${qualifiedName([schema, name])}, columns => ${
    textArray(columns)
  }${ofKey})`;
}

/** The columns of a table, with the type of those whose equal values have equal texts. */
const FOUND_SQL = `SELECT pg_catalog.json_build_object(
  'types', (
    SELECT pg_catalog.json_object_agg(a.attname, CASE
      WHEN a.attcollation <> 0::oid AND NOT (
        SELECT collisdeterministic FROM pg_catalog.pg_collation WHERE oid = a.attcollation
      ) THEN 'other'
      WHEN base.typtype = 'e' THEN 'text'
      WHEN base.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace::oid THEN 'other'
      WHEN base.typname IN ('int2', 'int4', 'int8') THEN 'integer'
      WHEN base.typname = 'bpchar' THEN 'char'
      WHEN base.typname IN ('text', 'varchar') THEN 'text'
      WHEN base.typname = 'bool' THEN 'boolean'
      WHEN base.typname IN ('uuid', 'date') THEN base.typname
      ELSE 'other' END)
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    JOIN pg_catalog.pg_type base ON base.oid = coalesce(nullif(t.typbasetype, 0::oid), t.oid)
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  ),
  'watch', (
    SELECT pg_catalog.json_build_object('key', w.key, 'columns', w.columns, 'matter', w.matter)
    FROM lookaside.watched w WHERE w.table_schema = n.nspname AND w.table_name = c.relname
  ),
  'isAttached', EXISTS (
    SELECT 1 FROM lookaside.watched w
    WHERE w.table_schema = n.nspname AND w.table_name = c.relname AND w.relation = c.oid
  ) AND NOT EXISTS (
    SELECT 1 FROM pg_catalog.pg_inherits WHERE inhrelid = c.oid
  ) AND NOT EXISTS (
    WITH RECURSIVE family (relation) AS (
      SELECT c.oid UNION SELECT part.oid FROM pg_catalog.pg_inherits i JOIN family f ON i.inhparent = f.relation
      JOIN pg_catalog.pg_class part ON part.oid = i.inhrelid AND part.relpersistence <> 't'
    )
    SELECT 1 FROM family f JOIN pg_catalog.pg_class part ON part.oid = f.relation
    WHERE part.relpersistence <> 'p' OR 4 <> (
      SELECT count(*) FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_trigger own ON own.tgfoid = t.tgfoid
      JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
      WHERE t.tgrelid = f.relation AND own.tgrelid = c.oid AND t.tgenabled = 'A' AND t.tgname <> 'lookaside_move'
        AND p.pronamespace = 'lookaside'::pg_catalog.regnamespace::oid
    )
  ))::text AS found
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1::text AND c.relname = $2::text`;

function hasColumns({ watch }: Found, { columns }: TableUse): boolean {
  return watch !== null && columns.every((name) => watch.columns.includes(name));
}

/** Rows without names may be reported with any key. */
function assertKey(use: TableUse, key: readonly string[]): void {
  if (use.key.length === 0) return;
  if (key.length === use.key.length && key.every((name, i) => name === use.key[i])) return;
  throw new TypeError(
    `${cannot(use)} by the key (${use.key.join(", ")}): it is watched by (${key.join(", ")})`,
  );
}

function cannot({ schema, name }: TableUse): string {
  return `Cannot use the table ${identifier(schema)}.${identifier(name)}`;
}

/** The error of a statement: a TypeError if Postgres refuses it. */
function refusal(use: TableUse, error: unknown): unknown {
  const state = sqlStateOf(error);
  if (!REFUSED.test(state)) return error;
  const remedy = state === NO_PRIVILEGE ? `. Its owner has to run: ${watchStatement(use)}` : "";
  return new TypeError(`${cannot(use)}: ${messageOf(error)}${remedy}`, { cause: error });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
