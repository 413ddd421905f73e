/**
 * The shape of a table in Postgres: its key, and how each column is read and written.
 *
 * @module
 */
import type { Queryable } from "./database.ts";
import { numberOf, parseDigits, wholeNumberOf } from "./json_digits.ts";
import { quoteIdentifier } from "./quote_identifier.ts";

/** Types of keys and filters, in which each value has exactly one text. */
export type PlainType = "integer" | "bigint" | "uuid" | "text" | "boolean";

export interface Column {
  readonly name: string;
  /** Its type as SQL writes it, without a length, since a cast with one would truncate a longer text. */
  readonly type: string;
  /** The type by which its values can be compared as text; `undefined`: they cannot. */
  readonly plain: PlainType | undefined;
  /** The largest integer it can hold. */
  readonly max: bigint | undefined;
  /** The possible values of an enum. */
  readonly labels: readonly string[] | undefined;
  /** The expression that selects it from a table called `t`. */
  readonly expression: string;
  /** Converts the selected text to a JSON value. Absent: it is one already. */
  readonly decode?: (text: string) => unknown;
}

/** A table, with the columns that are served. */
export interface TableShape {
  /** Its name as SQL writes it. */
  readonly from: string;
  /** The columns of its primary key, in order. */
  readonly key: readonly Column[];
  /** The columns that are selected, by name. */
  readonly columns: ReadonlyMap<string, Column>;
  /** The types of all columns as SQL writes them, lengths included. */
  readonly types: ReadonlyMap<string, string>;
  /** The columns of each constraint that can refuse a write, those of partitions included. */
  readonly constraints: ReadonlyMap<string, readonly string[]>;
  /** Problems that do not prevent serving the table, each with the statement that fixes it. */
  readonly advice: readonly { readonly fault: string; readonly statement: string }[];
}

/** The parts of a table that are to be served. */
export interface TableColumns {
  /** The table: `orders`, or `sales.orders`. */
  readonly table: string;
  /** The columns to select. */
  readonly columns: readonly string[];
  /** The columns to write. */
  readonly writable: readonly string[];
  /** The columns by which rows can be selected. */
  readonly filters: readonly string[];
}

/** A table cannot be served as declared: the message says why, and what to write instead. */
export class DeclarationError extends Error {
  override readonly name = "DeclarationError";
}

/** The catalog's description. Names of columns are text: they are compared, never executed. */
interface Catalogued {
  readonly columns: readonly {
    readonly name: string;
    readonly type: string;
    readonly cast: string;
    readonly labels: readonly string[] | null;
    readonly base: string;
    readonly kind: string;
    readonly fixed: boolean;
    /** What the role of the service may not do with it. */
    readonly withheld: readonly string[];
  }[];
  readonly indexes: readonly { readonly primary: boolean; readonly columns: readonly string[] }[];
  readonly constraints: readonly { readonly name: string; readonly columns: readonly string[] }[];
  readonly schema: string;
  /** True if triggers record its changes, in whatever way. */
  readonly triggered: boolean;
  /** The role of the service, and what it lacks besides rights for columns. */
  readonly role: string;
  readonly deletes: boolean;
  readonly sequences: readonly string[];
}

const CATALOG = `
  SELECT json_build_object(
    'columns', (
      SELECT coalesce(json_agg(json_build_object(
        'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
        'cast', CASE b.typname WHEN 'bpchar' THEN 'bpchar' ELSE format_type(b.oid, NULL) END,
        'labels', (SELECT json_agg(e.enumlabel) FROM pg_enum e WHERE e.enumtypid = b.oid),
        'base', b.typname, 'kind', b.typtype,
        'fixed', a.attgenerated <> '' OR a.attidentity = 'a',
        'withheld', (
          SELECT coalesce(json_agg(p), '[]') FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS p
          WHERE NOT has_column_privilege(c.oid, a.attnum, p))) ORDER BY a.attnum), '[]')
      FROM pg_attribute a JOIN LATERAL (
        WITH RECURSIVE d AS (
          SELECT oid, typname, typtype, typbasetype FROM pg_type WHERE oid = a.atttypid
          UNION ALL SELECT y.oid, y.typname, y.typtype, y.typbasetype
          FROM d JOIN pg_type y ON y.oid = d.typbasetype)
        SELECT * FROM d WHERE typbasetype = 0) AS b ON TRUE
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'indexes', (
      SELECT coalesce(json_agg(json_build_object('primary', i.indisprimary, 'columns', (
        SELECT json_agg(a.attname ORDER BY k.at)
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, at)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
        WHERE k.at <= i.indnkeyatts))), '[]')
      FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL),
    'schema', c.relnamespace::regnamespace::text,
    'triggered', EXISTS (
      SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgname LIKE 'lookaside%'),
    'role', current_user,
    'deletes', has_table_privilege(c.oid, 'DELETE'),
    'sequences', (
      SELECT coalesce(json_agg(s.oid::regclass::text), '[]')
      FROM pg_depend d JOIN pg_class s ON s.oid = d.objid
      WHERE d.refobjid = c.oid AND d.deptype = 'a'
        AND CASE s.relkind WHEN 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE, UPDATE') END),
    'constraints', (
      SELECT coalesce(json_agg(json_build_object('name', o.conname, 'columns', (
        SELECT coalesce(json_agg(a.attname ORDER BY array_position(o.conkey, a.attnum)), '[]') FROM pg_attribute a
        WHERE a.attrelid = o.conrelid AND a.attnum = ANY(o.conkey)))), '[]')
      FROM pg_constraint o
      WHERE o.conrelid = ANY(ARRAY(SELECT c.oid UNION SELECT relid FROM pg_partition_tree(c.oid)))
        AND o.contype IN ('c', 'u', 'f', 'p', 'x'))
  )::text AS catalogued
  FROM pg_class c WHERE c.oid = to_regclass($1)`;

/** The way in which a table is watched. */
interface Watch {
  readonly key: readonly string[];
  /** As SQL writes an array. */
  readonly columns: string;
  /** The columns whose changes are recorded; `null`: all. */
  readonly recorded: readonly string[] | null;
}

/** By its names: a table of another schema that the role may not use could not be looked up. */
const WATCH = `
  SELECT json_build_object('key', key, 'columns', columns::text,
    'recorded', CASE WHEN matter IS NOT NULL THEN key || columns || matter END)::text AS watch
  FROM lookaside.watched
  WHERE (table_schema, table_name) = (
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass($1))`;

/**
 * Reads the shape of a table.
 *
 * @throws {DeclarationError} The table cannot be served as declared.
 * @throws {DatabaseUnavailableError} Postgres is unavailable.
 */
export async function readShape(database: Queryable, asked: TableColumns): Promise<TableShape> {
  const from = asked.table.split(".").map(quoteIdentifier).join(".");
  const [row] = await database.query<{ catalogued: string }>(CATALOG, [from]);
  if (row === undefined) {
    throw new DeclarationError(
      `Cannot serve ${asked.table}: that table does not exist. \`deno task seed\` makes the database and ` +
        "its sample table, users; another is yours to make",
    );
  }
  const catalogued: Catalogued = JSON.parse(row.catalogued);
  const [watch] = catalogued.triggered
    ? await database.query<{ watch: string }>(WATCH, [from])
    : [];
  return shapeOf(asked, from, catalogued, watch && JSON.parse(watch.watch));
}

function shapeOf(
  asked: TableColumns,
  from: string,
  catalogued: Catalogued,
  watch: Watch | undefined,
): TableShape {
  const { table, filters, writable } = asked;
  const refuse = (why: string): never => {
    throw new DeclarationError(`Cannot serve ${table}: ${why}`);
  };
  // The names of its rows begin with its schema, unless that is `public`, whichever is searched first.
  if (!table.includes(".") && catalogued.schema !== "public") {
    refuse(`it is in the schema ${catalogued.schema}: write ${catalogued.schema}.${table}`);
  }
  const all = new Map(catalogued.columns.map((column) => [column.name, column]));
  const named = (name: string, where: string) =>
    all.get(name) ??
      refuse(
        `it has no column ${name}: take it out of \`${where}\`, or write one of ${
          [...all.keys()].join(", ")
        }`,
      );
  const columns = new Map(asked.columns.map((name) => [name, columnOf(named(name, "row"))]));
  for (const name of writable) {
    if (named(name, "write").fixed) {
      refuse(`Postgres alone writes ${name}: take it out of \`write\``);
    }
  }
  const { columns: keyNames } = catalogued.indexes.find(({ primary }) => primary) ??
    refuse(
      "it has no primary key: write ALTER TABLE … ADD PRIMARY KEY (…), or serve its table if it is a view",
    );
  const plainColumn = (name: string, role: string): Column => {
    const column = columns.get(name) ?? refuse(`${role} ${name} is not in \`row\`: add it`);
    const isKey = role === "its key";
    if (
      column.plain === undefined ||
      (isKey && (column.plain === "boolean" || column.labels !== undefined))
    ) {
      refuse(`${role} ${name} is of type ${column.type}: integer, bigint, uuid or text will do`);
    }
    return column;
  };
  for (const name of filters) {
    named(name, "filters");
    plainColumn(name, "the filter");
  }
  return {
    from,
    key: keyNames.map((name) => plainColumn(name, "its key")),
    columns,
    types: new Map(catalogued.columns.map(({ name, type }) => [name, type])),
    constraints: new Map(catalogued.constraints.map(({ name, columns }) => [name, columns])),
    advice: [
      ...watchAdvice(asked, from, keyNames, watch),
      ...adviceOf(asked, from, catalogued),
    ],
  };
}

/** Advice unless each change of a served column is recorded, by the names that its rows have in the cache. */
function watchAdvice(
  { table, columns }: TableColumns,
  from: string,
  key: readonly string[],
  watch: Watch | undefined,
): TableShape["advice"] {
  const quoted = (text: string) => `'${text.replaceAll("'", "''")}'`;
  const isByKey = watch?.key.join() === key.join();
  const isWhole = columns.every((name) => watch?.recorded?.includes(name) ?? true);
  if (watch !== undefined && isByKey && isWhole) return [];
  const how = watch === undefined
    ? "not watched"
    : isByKey
    ? "watched for some of its columns"
    : `watched by (${watch.key.join(", ")}), not by its key`;
  const rest = (watch?.columns ?? "{}") === "{}"
    ? ""
    : `, columns => ${quoted(watch?.columns ?? "")}`;
  return [{
    fault: `${table} is ${how}, so writes by others are not seen`,
    statement: `SELECT lookaside.watch(${quoted(from)}${rest})`,
  }];
}

function adviceOf(
  { table, columns, filters, writable }: TableColumns,
  from: string,
  { columns: all, indexes, role, deletes, sequences }: Catalogued,
): TableShape["advice"] {
  const isWritten = writable.length > 0;
  const lacking = (right: string, names: readonly string[]): string[] => {
    const without = all.filter(({ name, withheld }) =>
      names.includes(name) && withheld.includes(right)
    ).map(({ name }) => quoteIdentifier(name));
    if (without.length === 0) return [];
    return [without.length === names.length ? right : `${right} (${without.join(", ")})`];
  };
  const onTable = [
    ...lacking("SELECT", columns),
    ...lacking("INSERT", writable),
    ...lacking("UPDATE", writable),
    ...(isWritten && !deletes ? ["DELETE"] : []),
  ];
  const rights = [
    ...(onTable.length === 0 ? [] : [`${onTable.join(", ")} ON ${from}`]),
    ...(isWritten ? sequences : []).map((sequence) => `USAGE ON SEQUENCE ${sequence}`),
  ];
  const unindexed = filters.filter((name) => !indexes.some(({ columns }) => columns?.[0] === name));
  return [
    ...rights.map((right) => ({
      fault: `requests for ${table} fail, for which the role ${role} lacks a right`,
      statement: `GRANT ${right} TO ${quoteIdentifier(role)}`,
    })),
    ...unindexed.map((name) => ({
      fault: `each list of ${table} by ${name} reads the whole table`,
      statement: `CREATE INDEX ON ${from} (${quoteIdentifier(name)})`,
    })),
  ];
}

const WHOLE_NUMBERS: Readonly<Record<string, bigint>> = {
  int2: 2n ** 15n - 1n,
  int4: 2n ** 31n - 1n,
  int8: 2n ** 63n - 1n,
};

const TEXTS = new Set(["text", "varchar", "bpchar", "citext", "name"]);

function columnOf({ name, cast, base, kind, labels }: Catalogued["columns"][number]): Column {
  const plain = plainTypeOf(base, kind);
  return {
    name,
    type: cast,
    plain,
    max: WHOLE_NUMBERS[base],
    labels: labels ?? undefined,
    ...readingOf(`t.${quoteIdentifier(name)}`, base, plain),
  };
}

function plainTypeOf(base: string, kind: string): PlainType | undefined {
  if (base === "int2" || base === "int4") return "integer";
  if (base === "int8") return "bigint";
  if (base === "uuid") return "uuid";
  if (base === "bool") return "boolean";
  return TEXTS.has(base) || kind === "e" ? "text" : undefined;
}

/**
 * The expression that selects a column. It depends on the type, because a driver would make a date in the time zone
 * of the process, or a float with fewer digits.
 */
function readingOf(
  column: string,
  base: string,
  plain: PlainType | undefined,
): Pick<Column, "expression" | "decode"> {
  if (plain === "boolean") return { expression: column };
  // The column may be made a bigint while the service runs, which a driver would read as a text.
  if (plain === "integer") return { expression: `${column}::integer` };
  if (plain === "bigint") return { expression: `${column}::text`, decode: wholeNumberOf };
  if (plain !== undefined) return { expression: `${column}::text` };
  if (base === "timestamp") return { expression: isoText(column) };
  if (base === "timestamptz") return { expression: isoText(`(${column} AT TIME ZONE 'UTC')`) };
  if (["float4", "float8", "numeric"].includes(base)) {
    return { expression: `${column}::text`, decode: numberOf };
  }
  return { expression: `to_json(${column})::text`, decode: parseDigits };
}

/** A time as `Date.toJSON` writes it; if that is impossible, as for infinity, as Postgres does. */
function isoText(timestamp: string): string {
  return `CASE WHEN ${timestamp} >= '0001-01-01' AND ${timestamp} < '10000-01-01'
    THEN to_char(${timestamp}, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') ELSE ${timestamp}::text END`;
}
