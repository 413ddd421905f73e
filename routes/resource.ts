/**
 * The declaration of a table that is served.
 *
 * @module
 */
import { z } from "zod";
import { DeclarationError, type TableColumns } from "../db/table_shape.ts";

/** The parts of a table that are served. */
export interface ResourceOptions {
  /** A row: the columns to select, its primary key among them. */
  readonly row: z.ZodObject;
  /** The columns that a client may write. Absent: none. */
  readonly write?: z.ZodObject;
  /** Columns by which lists can be filtered, as in `?customer_id=7`. */
  readonly filters?: readonly string[];
  /** Fresh life of a row, in milliseconds. Default: that of the cache. */
  readonly ttlMs?: number;
  /** Fresh life of a list, in milliseconds. Default: that of lists of the service. */
  readonly listTtlMs?: number;
}

/** A declared table. */
export interface Resource extends ResourceOptions {
  /** The name of the table and its path: `orders` is served at `/orders`. */
  readonly name: string;
  /** The name of one row: `Order`. */
  readonly title: string;
  /** The columns by which rows can be selected. */
  readonly filters: readonly string[];
  /** The columns that can be overwritten, of which at least one must be given. */
  readonly changes?: z.ZodType<Readonly<Record<string, unknown>>>;
}

/** First parts of paths that the service itself uses. */
const TAKEN: ReadonlySet<string> = new Set(
  ["cache", "dashboard", "docs", "healthz", "metrics", "openapi.json", "readyz"],
);
const TIMES = ["ttlMs", "listTtlMs"] as const;
const OPTIONS: readonly string[] = ["row", "write", "filters", ...TIMES];
/** Members of a declaration that {@linkcode resource} adds. */
const ADDED: readonly string[] = ["name", "title", "changes"];
/** Schemas of the service's own in the description of the API. */
const SCHEMAS: readonly string[] = [
  ...["Alive", "CacheCleared", "CacheEntry", "CacheStatsAnswer", "CacheWarmed", "EntryInvalidated"],
  ...["Failure", "InvalidRequest", "Ready", "RefusedWrite"],
];
/** Parameters that every list has. */
const PARAMETERS: ReadonlySet<string> = new Set(["page", "limit", "after", "ids"]);

/**
 * Declares a table: it can be read by key, by several keys, by page and by each filter, and written if that is
 * allowed. The columns are those of the schemas; their types and the primary key come from the table.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { z } from "zod";
 * import { resource } from "./resource.ts";
 *
 * const Order = z.object({ id: z.int(), customer_id: z.int() });
 * const orders = resource("orders", { row: Order, filters: ["customer_id"] });
 * assert.equal(orders.title, "Order");
 * ```
 */
export function resource(name: string, options: ResourceOptions): Resource {
  const title = options.row.meta()?.id ?? titleOf(name);
  const row = options.row.meta()?.id === undefined ? options.row.meta({ id: title }) : options.row;
  const base = { ...options, name, title, row, filters: options.filters ?? [] };
  if (options.write === undefined) return base;
  const described = options.write.meta() ?? { id: `${title}Body` };
  const write = options.write.strict().meta(described);
  return { ...base, write, changes: changesOf(write, title) };
}

/** The columns that Postgres is asked about. */
export function columnsOf({ name, row, write, filters }: Resource): TableColumns {
  const writable = Object.keys(write?.shape ?? {});
  return { table: name, columns: Object.keys(row.shape), writable, filters };
}

/**
 * Checks declarations as far as possible without Postgres.
 *
 * @throws {DeclarationError} One cannot be served as declared, or not together with another.
 */
export function assertServable(resources: readonly Resource[]): void {
  const known = { row: new Map<string, unknown>(), write: new Map<string, unknown>() };
  for (const id of SCHEMAS) Object.values(known).forEach((schemas) => schemas.set(id, undefined));
  for (const each of resources) {
    const { name, filters, write } = each;
    const refuse = (why: string): never => {
      throw new DeclarationError(`Cannot serve ${name}: ${why}`);
    };
    if (!/^[a-z_][\w-]*(\.[\w-]+)?$/i.test(name)) {
      refuse(
        "write a name of letters, digits and _ alone, after that of its schema and a dot, if any",
      );
    }
    if (TAKEN.has(name)) {
      refuse(`/${name} is the service's own: write public.${name}, or the schema that it is in`);
    }
    for (const option of Object.keys(each)) {
      if (OPTIONS.includes(option) || ADDED.includes(option)) continue;
      refuse(`\`${option}\` is no option: write one of ${OPTIONS.join(", ")}`);
    }
    for (const time of TIMES) {
      const { [time]: ms = 0 } = each;
      if (!(typeof ms === "number" && ms >= 0)) {
        refuse(`its \`${time}\` is no number of at least 0`);
      }
    }
    if (write?._zod.def.checks?.length) {
      refuse(
        "a PATCH has some fields alone, so no rule of all can be kept: write .refine() on a field of " +
          "`write`, or make it a CHECK of the table",
      );
    }
    for (const { id, schema, part } of schemasOf(each)) {
      if (!/^[\w.-]+$/.test(id)) {
        refuse(
          `${id} is no name of a schema: write an \`id\` of letters, digits, ., _ and - alone`,
        );
      }
      if (known[part].has(id) && known[part].get(id) !== schema) {
        const isOwn = schema === undefined || schema === each.row || schema === write;
        refuse(
          `there is another ${id}: ` +
            (isOwn
              ? `write .meta({ id: "…" }) on its \`${part}\``
              : "give one of them another id, or use the same schema for both"),
        );
      }
      known[part].set(id, schema);
    }
    for (const filter of filters.filter((each) => PARAMETERS.has(each))) {
      refuse(`?${filter}= means something else: take it out of \`filters\``);
    }
  }
}

/** A schema with a name, in the description of answers or in that of bodies. */
interface NamedSchema {
  readonly id: string;
  /** Absent: the service makes it from the declaration. */
  readonly schema?: unknown;
  readonly part: "row" | "write";
}

/** The named schemas of a table in the description of the API. */
function schemasOf({ title, row, write }: Resource): NamedSchema[] {
  const made = (part: "row" | "write", ...ids: string[]) => ids.map((id) => ({ id, part }));
  return [
    ...namedIn(row, "row"),
    ...made("row", `${title}Answer`, `${title}Created`, `${title}List`),
    ...(write === undefined ? [] : namedIn(write, "write")),
    ...made("write", `${title}Changes`),
  ];
}

/** The schemas with an id of their own within a schema, at any depth, itself included. */
function namedIn(schema: z.ZodType, part: NamedSchema["part"]): NamedSchema[] {
  const named: NamedSchema[] = [];
  const metadata = z.registry<Record<string, unknown>>();
  // What is converted asks it about each schema. No ids: of two schemas with one, nothing would be converted.
  metadata.get = (schema) => {
    const id = z.globalRegistry.get(schema)?.id;
    if (id !== undefined) named.push({ id, schema, part });
    return undefined;
  };
  const io = part === "row" ? "output" : "input";
  z.toJSONSchema(schema, { io, metadata, unrepresentable: "any" });
  return named;
}

/** `users` becomes `Users`. */
export function capitalised(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** The message for a body that is not an object. */
export function notAnObject(issue: { readonly code: string | undefined }): string | undefined {
  return issue.code === "invalid_type" ? "Expected an object" : undefined;
}

/** `customer_orders` becomes `CustomerOrder`. */
function titleOf(name: string): string {
  const words = (name.split(".").at(-1) ?? name).split(/[^A-Za-z0-9]+/).filter(Boolean);
  const last = words.pop() ?? name;
  const one = last.replace(/ies$/, "y").replace(/(ss|x|ch|sh)es$/, "$1").replace(/([^s])s$/, "$1");
  return [...words, one].map(capitalised).join("");
}

/** Without defaults, however deep in a schema they are: omitted fields stay as they are. */
function changesOf(
  write: z.ZodObject,
  title: string,
): z.ZodType<Readonly<Record<string, unknown>>> {
  const names = new Intl.ListFormat("en-GB").format(Object.keys(write.shape));
  const fields = Object.entries(write.shape).map(([name, schema]) =>
    [name, z.exactOptional(z.nonoptional(withoutDefault(schema)))] as const
  );
  return z.strictObject(Object.fromEntries(fields), { error: notAnObject })
    .refine((changes) => Object.keys(changes).length > 0, {
      error: `Expected at least one of ${names}`,
    })
    .meta({ id: `${title}Changes`, description: "The fields to overwrite", minProperties: 1 });
}

function withoutDefault(schema: z.core.$ZodType): z.core.$ZodType {
  if (schema instanceof z.ZodDefault || schema instanceof z.ZodOptional) {
    return withoutDefault(schema.unwrap());
  }
  return schema;
}
