/**
 * The description of the routes of declared tables.
 *
 * @module
 */
import { z } from "zod";
import type { Column, PlainType, TableShape } from "../db/table_shape.ts";
import {
  answer,
  BODY_ERRORS,
  CACHE_STATUS,
  CACHED,
  type Described,
  failure,
  guarded,
  header,
  type Headers,
  IF_NONE_MATCH,
  type Paths,
  reading,
  REFUSED,
  REFUSED_OR_CHANGED,
  UNAVAILABLE,
  unchanged,
  UNSTORED,
  WRITE_CONDITIONS,
} from "./_description.ts";
import { capitalised, type Resource } from "./resource.ts";
import type { Inputs, Table } from "./table.ts";

type Operation = NonNullable<Paths[string]["get"]>;

/** A table, its inputs, and a row in a response. */
interface DescribedTable {
  readonly resource: Resource;
  readonly inputs: Inputs;
  readonly row: z.ZodObject;
}

const INVALIDATION: Headers = {
  "Lookaside-Invalidation": header(
    "`pending`: the write stands, and its invalidation is applied once Redis can be reached",
    z.enum(["applied", "pending"]),
  ),
};

const source = z.enum(["database", "cache"]).meta({ description: "Where the data came from" });
const duration = z.string().regex(/^\d+\.\d+ms$/).meta({
  description: "How long the read took, in milliseconds",
  example: "0.1ms",
});

/** A 64-bit number. */
const WholeNumber = z.union([z.int(), z.string().regex(/^-?\d+$/)]).meta({
  description: "A number up to 2^53 - 1, a string beyond",
});

/** What no number in JSON is, and no date in ISO 8601. */
const NoNumber = z.enum(["NaN", "Infinity", "-Infinity"]);
const NoIsoDate = z.string().regex(/^-?infinity$|^\d{5,}-| BC$/).meta({
  description: "An infinity, or a time outside of the years 1 to 9999, as Postgres writes it",
});

/** Types with values of which the declared schema knows nothing. */
const WIDER: ReadonlyMap<string, z.ZodType> = new Map<string, z.ZodType>([
  ...["real", "double precision", "numeric"].map((type) => [type, NoNumber] as const),
  ...["date", "timestamp without time zone", "timestamp with time zone"]
    .map((type) => [type, NoIsoDate] as const),
]);

/** A part of a key, in the examples of `/docs`. */
const EXAMPLES: Readonly<Record<PlainType, string | number | boolean>> = {
  integer: 1,
  bigint: "1",
  uuid: "0b9e4c5e-5f3a-4c1e-9b1a-111111111111",
  text: "text",
  boolean: true,
};

/** Describes the routes of tables; without Postgres, as far as their declarations suffice. */
export async function describeTables(tables: readonly Table[]): Promise<Described> {
  const described: DescribedTable[] = [];
  let isFinal = true;
  for (const table of tables) {
    const { resource, rows, inputs: suggested } = table;
    try {
      const inputs = await table.check();
      described.push({ resource, inputs, row: rowOf(resource, await rows.shape()) });
    } catch (_error) {
      isFinal = false; // readers of the table report it
      const { row } = resource;
      if (suggested !== undefined) described.push({ resource, inputs: suggested, row });
    }
  }
  return {
    paths: Object.fromEntries(described.flatMap((table) => Object.entries(describeTable(table)))),
    tags: described.map(({ resource: { name } }) => ({
      name: capitalised(name),
      description: "Reads go through the cache; writes go to Postgres and invalidate it",
    })),
    isFinal,
  };
}

function describeTable(table: DescribedTable): Paths {
  const { name, write, changes } = table.resource;
  const list = { get: describeList(table) };
  const one = { get: describeOne(table) };
  if (write === undefined || changes === undefined) {
    return { [`/${name}`]: list, [`/${name}/{id}`]: one };
  }
  return {
    [`/${name}`]: { ...list, post: describeCreate(table, write) },
    [`/${name}/{id}`]: {
      ...one,
      put: describeOverwrite(table, { verb: "replace", schema: write }),
      patch: describeOverwrite(table, { verb: "update", schema: changes }),
      delete: describeDelete(table),
    },
  };
}

function describeList({ resource, inputs, row }: DescribedTable): Operation {
  const { name, title } = resource;
  const [key] = inputs.keys.columns;
  const Answer = z.object({
    source: source.meta({ description: "`cache` only if every part came from there" }),
    duration,
    page: z.exactOptional(z.int().min(1)).meta({
      description: "The page, unless others were asked for",
    }),
    after: z.exactOptional(inputs.keys.before.schema).meta({
      description: `The ${
        inputs.keys.isComposite ? "key" : key?.name
      } that was asked for as \`after\``,
    }),
    data: z.array(row),
  }).meta({ id: `${title}List` });
  const filters = resource.filters.length === 0
    ? ""
    : ` By ${resource.filters.map((each) => `\`${each}\``).join(" and ")}.`;
  return reading(`list${capitalised(name).replace(/\W/g, "")}`, {
    summary: `Lists ${name}`,
    description:
      "By page, after an id, or by ids. `page` and `after` exclude each other; `ids` excludes all else." +
      filters,
    tags: [capitalised(name)],
    requestParams: { query: inputs.query.schema, header: IF_NONE_MATCH },
    responses: {
      200: answer(`The ${name}`, Answer, CACHED),
      304: unchanged(CACHED),
    },
  });
}

function describeOne({ resource, inputs, row }: DescribedTable): Operation {
  const { name, title } = resource;
  const Answer = z.object({ source, duration, data: row }).meta({ id: `${title}Answer` });
  return reading(`get${title}`, {
    summary: `Reads ${one(title)}`,
    tags: [capitalised(name)],
    requestParams: { path: pathOf(inputs, title), header: IF_NONE_MATCH },
    responses: {
      200: answer(`The ${noun(title)}`, Answer, CACHED),
      304: unchanged(CACHED),
      404: failure(`There is no such ${noun(title)}`, { ...CACHE_STATUS, ...UNSTORED }),
    },
  });
}

function describeCreate({ resource, row }: DescribedTable, write: z.ZodType): Operation {
  const { name, title } = resource;
  const Created = writtenAnswer(title, "created", row).meta({ id: `${title}Created` });
  return guarded(`create${title}`, {
    summary: `Creates ${one(title)}`,
    tags: [capitalised(name)],
    requestBody: bodyOf(write),
    responses: {
      201: answer(`The ${noun(title)}`, Created, {
        "Location": header(
          `The ${noun(title)}'s path`,
          z.string().regex(new RegExp(`^/${name.replaceAll(".", "\\.")}/[^/]+$`)),
        ),
        ...INVALIDATION,
      }),
      ...BODY_ERRORS,
      ...REFUSED,
      503: UNAVAILABLE,
    },
  });
}

function describeOverwrite(
  { resource, inputs, row }: DescribedTable,
  { verb, schema }: { readonly verb: "replace" | "update"; readonly schema: z.ZodType },
): Operation {
  const { name, title } = resource;
  const Updated = writtenAnswer(title, "updated", row);
  return guarded(`${verb}${title}`, {
    summary: verb === "replace" ? `Overwrites ${one(title)}` : `Overwrites fields of ${one(title)}`,
    tags: [capitalised(name)],
    requestParams: { path: pathOf(inputs, title), header: WRITE_CONDITIONS },
    requestBody: bodyOf(schema),
    responses: {
      200: answer(`The ${noun(title)} as it is now`, Updated, INVALIDATION),
      ...BODY_ERRORS,
      404: failure(`There is no such ${noun(title)}`, UNSTORED),
      ...REFUSED_OR_CHANGED,
      503: UNAVAILABLE,
    },
  });
}

function describeDelete({ resource: { name, title }, inputs }: DescribedTable): Operation {
  return guarded(`delete${title}`, {
    summary: `Deletes ${one(title)}`,
    tags: [capitalised(name)],
    requestParams: { path: pathOf(inputs, title), header: WRITE_CONDITIONS },
    responses: {
      204: answer("It is deleted", undefined, INVALIDATION),
      404: failure(`There is no such ${noun(title)}`, UNSTORED),
      ...REFUSED_OR_CHANGED,
      503: UNAVAILABLE,
    },
  });
}

function writtenAnswer(title: string, done: "created" | "updated", row: z.ZodType): z.ZodType {
  return z.object({
    message: z.enum([
      `${title} ${done} and cache invalidated`,
      `${title} ${done}; cache invalidation pending`,
    ]),
    data: row,
  });
}

function bodyOf(schema: z.ZodType): NonNullable<Operation["requestBody"]> {
  return { required: true, content: { "application/json": { schema } } };
}

/** A row in a response: a column may hold what a JSON number or a date in ISO 8601 cannot represent. */
function rowOf({ row, title }: Resource, { columns }: TableShape): z.ZodObject {
  const wide = Object.entries(row.shape)
    .map(([name, schema]) => [name, widened(schema, columns.get(name))] as const)
    .filter(([name, schema]) => schema !== row.shape[name]);
  if (wide.length === 0) return row;
  return z.object({ ...row.shape, ...Object.fromEntries(wide) })
    .meta({ ...row.meta(), id: title });
}

/** The schema of a column, for the values that it answers. */
function widened(schema: z.core.$ZodType, column: Column | undefined): z.core.$ZodType {
  if (schema instanceof z.ZodNullable) {
    const inner = schema.unwrap();
    const wide = widened(inner, column);
    const { id: _, ...meta } = schema.meta() ?? {};
    return wide === inner ? schema : z.nullable(wide).meta(meta);
  }
  const isNumber = schema instanceof z.ZodNumber || schema instanceof z.ZodBigInt;
  if (isNumber && column?.plain === "bigint") return WholeNumber;
  const others = WIDER.get(column?.type ?? "");
  if (others === undefined || !(isNumber || schema instanceof z.ZodStringFormat)) return schema;
  return z.union([schema, others]);
}

function pathOf({ keys }: Inputs, title: string): z.ZodObject {
  const of = keys.isComposite ? "key" : keys.columns[0]?.name;
  const parts = keys.columns.map(({ plain }) => EXAMPLES[plain]);
  return z.object({
    id: keys.schema.meta({
      description: `The ${noun(title)}'s ${of}`,
      example: parts.length === 1 ? parts[0] : parts.join(","),
    }),
  });
}

/** `OrderItem` becomes "an order item". */
function noun(title: string): string {
  return title.replace(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase();
}

function one(title: string): string {
  return `${/^(?:[AEIO]|U(?!ser|ni|se))/.test(title) ? "an" : "a"} ${noun(title)}`;
}
