/**
 * The query of a list of rows.
 *
 * @module
 */
import { z } from "zod";
import type { Values } from "../db/table_statements.ts";
import {
  decimalOf,
  type KeyReader,
  type PlainColumn,
  ROWS_MAX,
  ValueReader,
  wholeNumber,
} from "./_table_keys.ts";
import { capitalised, type Resource } from "./resource.ts";

/** Limit of rows on one page, and of keys in one request. */
const PAGE_LIMIT_MAX = 100;
/** Rows on a page by default. */
const PAGE_LIMIT_DEFAULT = 10;
/** Limit of rows before a page: Postgres reads them all, and anybody may ask. */
const SKIPPED_MAX = 100_000;

export interface ListQuery {
  /** The number of the page, from 1. */
  readonly page: number;
  /** Rows on a page. */
  readonly limit: number;
  /** The text of the key after which the rows begin. */
  readonly after?: string;
  /** Texts of keys. */
  readonly ids?: readonly string[];
  /** Values of filters. */
  readonly where: Values;
}

/** The parameters that each one excludes. */
const EXCLUDED_BY = { after: ["page"], ids: ["page", "limit", "after"] };

/** In place of a list: OpenAPI has none that semicolons separate. */
const TEXT = {
  type: "string",
  items: undefined,
  minItems: undefined,
  maxItems: undefined,
} as const;

/** The query of a list: its schema, and how to read it. */
export class QueryReader {
  /** The parameters; numbers are parsed, lists are split. */
  readonly schema: z.ZodType<Readonly<Record<string, unknown>>, Record<string, unknown>>;
  /** The names of the parameters. */
  readonly names: readonly string[];
  readonly #keys: KeyReader;
  readonly #filters: readonly ValueReader[];

  /** For rows with such keys and filters by these columns. */
  constructor(resource: Resource, keys: KeyReader, filters: readonly PlainColumn[]) {
    this.#keys = keys;
    this.#filters = filters.map((column) =>
      new ValueReader(column, resource.row.shape[column.name])
    );
    this.names = ["page", "limit", "after", "ids", ...resource.filters];
    this.schema = schemaOf(resource, keys, this.#filters);
  }

  /** The given texts, as input for the schema. */
  valuesOf(texts: ReadonlyMap<string, string>): Record<string, unknown> {
    const values = [...texts].map(([name, text]) => [name, this.#valueOf(name, text)] as const);
    // A filter may be called `constructor`, which every object with a prototype seems to have.
    return Object.setPrototypeOf(Object.fromEntries(values), null);
  }

  /** Makes the query from the schema's output. */
  queryOf({ page, limit, after, ids, ...filters }: Readonly<Record<string, unknown>>): ListQuery {
    return {
      page: Number(page ?? 1),
      limit: Number(limit ?? PAGE_LIMIT_DEFAULT),
      ...(after === undefined ? {} : { after: String(after) }),
      ...(Array.isArray(ids) ? { ids: ids.map(String) } : {}),
      where: Object.fromEntries(
        Object.entries(filters).map(([name, value]) => [name, String(value)]),
      ),
    };
  }

  #valueOf(name: string, text: string): unknown {
    if (name === "page" || name === "limit") return decimalOf(text) ?? text;
    const isNumber = (column: ValueReader | undefined) => column?.plain === "integer";
    const [first] = this.#keys.columns;
    const keyOf = (part: string) =>
      !this.#keys.isComposite && isNumber(first) ? decimalOf(part) ?? part : part;
    if (name === "after") return keyOf(text);
    if (name !== "ids") {
      const column = this.#filters.find((each) => each.name === name);
      return isNumber(column) ? decimalOf(text) ?? text : text;
    }
    return text.split(this.#keys.isComposite ? ";" : ",", PAGE_LIMIT_MAX + 1).map(keyOf);
  }
}

function schemaOf(
  { name, filters: names }: Resource,
  keys: KeyReader,
  filters: readonly ValueReader[],
): z.ZodType<Readonly<Record<string, unknown>>, Record<string, unknown>> {
  const id = keys.columns.length === 1 ? `${keys.columns[0]?.name}s` : "keys";
  const separator = keys.isComposite ? "semicolons" : "commas";
  return z.object({
    page: z.exactOptional(wholeNumber(1, ROWS_MAX)).meta({
      description:
        `Which page, from 1, with at most ${SKIPPED_MAX} rows before it: \`after\` walks the whole list`,
      default: 1,
    }),
    limit: z.exactOptional(wholeNumber(1, PAGE_LIMIT_MAX)).meta({
      description: `${capitalised(name)} on a page`,
      default: PAGE_LIMIT_DEFAULT,
    }),
    after: z.exactOptional(keys.before.schema).meta({
      description:
        `Show the ${name} whose ${id} follow this one. As fast at the end as at the start`,
    }),
    ids: z.exactOptional(
      z.array(keys.schema).min(1).max(PAGE_LIMIT_MAX, {
        error: `Expected at most ${PAGE_LIMIT_MAX} ids`,
      }),
    ).meta({
      description: `Show these ${name}, separated by ${separator}. Unknown ones are left out`,
      ...(keys.isComposite ? TEXT : { param: { explode: false } }),
    }),
    ...Object.fromEntries(filters.map((column) => [
      column.name,
      z.exactOptional(column.schema).meta({
        description: `Show the ${name} that have this ${column.name}`,
      }),
    ])),
  }).superRefine((query: Readonly<Record<string, unknown>>, context) => {
    const excluded = { ...EXCLUDED_BY, ids: [...EXCLUDED_BY.ids, ...names] };
    for (const [name, others] of Object.entries(excluded)) {
      if (!Object.hasOwn(query, name)) continue;
      for (const other of others.filter((other) => Object.hasOwn(query, other))) {
        const message = `Cannot be combined with ${name}`;
        context.addIssue({ code: "custom", path: [other], message });
      }
    }
    const { page = 1, limit = PAGE_LIMIT_DEFAULT } = query;
    if (Number(page) <= ROWS_MAX && (Number(page) - 1) * Number(limit) > SKIPPED_MAX) {
      const message = `Expected at most ${SKIPPED_MAX} ${name} before the page: use after`;
      context.addIssue({ code: "custom", path: ["page"], message });
    }
  });
}
