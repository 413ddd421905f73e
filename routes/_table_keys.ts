/**
 * Keys of rows and values of filters, as they are written in requests.
 *
 * @module
 */
import { z } from "zod";
import { keyOf } from "../changes/names.ts";
import type { Key, Row } from "../db/table_statements.ts";
import type { Column, PlainType } from "../db/table_shape.ts";
import type { Issue } from "./_errors.ts";
import type { Resource } from "./resource.ts";

/** A column of a key, or a filter. */
export type PlainColumn = Pick<Column, "name" | "plain" | "max">;

/** The largest 32-bit number: no page begins after so many rows. */
export const ROWS_MAX = 2_147_483_647;
const BIGINT_MAX = 2n ** 63n - 1n;
/** The longest text that chooses a row, in UTF-16 code units. */
const TEXT_LENGTH_MAX = 1_000;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const WHOLE_NUMBER = /^(?:0|-?[1-9]\d{0,18})$/;

/** Reads one value, which has only one valid text. */
export class ValueReader {
  /** The column. */
  readonly name: string;
  readonly plain: PlainType;
  readonly #min: number | bigint;
  readonly #max: number | bigint;

  /** Limits of the column's schema apply in addition to those of its type. */
  constructor({ name, plain = "text", max = BIGINT_MAX }: PlainColumn, schema?: z.core.$ZodType) {
    this.name = name;
    this.plain = plain;
    const bounds = boundsOf(schema);
    const least = bounds.min === undefined ? -max - 1n : BigInt(bounds.min);
    const most = bounds.max === undefined || BigInt(bounds.max) > max ? max : BigInt(bounds.max);
    const isSmall = plain === "integer";
    this.#min = isSmall ? Number(least) : least;
    this.#max = isSmall ? Number(most) : most;
  }

  /** True if a text is a valid value. Written by hand, because every hit calls it. */
  accepts(text: string): boolean {
    switch (this.plain) {
      case "integer": {
        const value = decimalOf(text);
        return value !== undefined && value >= this.#min && value <= this.#max;
      }
      case "bigint": {
        if (!WHOLE_NUMBER.test(text)) return false;
        const value = BigInt(text);
        return value >= this.#min && value <= this.#max;
      }
      case "uuid":
        return UUID.test(text);
      case "boolean":
        return text === "true" || text === "false";
      case "text":
        return text.length <= TEXT_LENGTH_MAX && !text.includes("\0") && text.isWellFormed();
    }
  }

  /** A description of valid values. */
  get expected(): string {
    return {
      integer: `Expected a whole number from ${this.#min} to ${this.#max}`,
      bigint: `Expected a whole number from ${this.#min} to ${this.#max}`,
      uuid: "Expected a UUID in lower case",
      boolean: "Expected true or false",
      text: `Expected at most ${TEXT_LENGTH_MAX} characters in UTF-8, without NUL`,
    }[this.plain];
  }

  /** The schema for the API's description. */
  get schema(): z.ZodType {
    if (this.plain === "integer") return wholeNumber(Number(this.#min), Number(this.#max));
    const error = this.expected;
    const described = {
      bigint: { pattern: WHOLE_NUMBER.source },
      uuid: { format: "uuid", pattern: UUID.source },
      boolean: { type: "boolean" },
      text: { maxLength: TEXT_LENGTH_MAX },
    }[this.plain];
    return z.string({ error }).refine((text) => this.accepts(text), { error }).meta(described);
  }

  /** The value before the first one, for lists that begin at the start. */
  get before(): ValueReader {
    if (this.plain !== "integer") return this;
    const min = Number(this.#min) > 0 ? z.int().min(Number(this.#min) - 1) : z.int();
    return new ValueReader({ name: this.name, plain: this.plain, max: BigInt(this.#max) }, min);
  }
}

/** Reads keys of rows. */
export class KeyReader {
  /** Its columns, in order. */
  readonly columns: readonly ValueReader[];
  readonly #only: ValueReader | undefined;

  /** Takes the columns of a primary key, as `resource` describes them. */
  constructor(columns: readonly PlainColumn[], { row }: Pick<Resource, "row">) {
    this.columns = columns.map((column) => new ValueReader(column, row.shape[column.name]));
    this.#only = this.columns.length === 1 ? this.columns[0] : undefined;
  }

  /** True if a key has several columns, separated by commas. */
  get isComposite(): boolean {
    return this.#only === undefined;
  }

  /** The name of the row in cache keys; `undefined`: the text is not a key. */
  nameOf(text: string): string | undefined {
    const only = this.#only;
    if (only === undefined || only.plain === "text") {
      const key = this.read(text);
      return key && keyOf(key);
    }
    return only.accepts(text) ? text : undefined;
  }

  /** Parses a key. */
  read(text: string): Key | undefined {
    if (this.#only !== undefined) return this.#only.accepts(text) ? [text] : undefined;
    const parts = text.split(",").map(decoded);
    if (parts.length !== this.columns.length) return undefined;
    const key = parts.filter((part, at) => part !== undefined && this.columns[at]?.accepts(part));
    return key.length === parts.length ? key as string[] : undefined;
  }

  /** The problems of a text that is not a key. */
  issuesOf(text: string): Issue[] {
    if (this.#only !== undefined) return [{ path: this.#only.name, message: this.#only.expected }];
    const parts = text.split(",").map(decoded);
    if (parts.length !== this.columns.length) return [{ path: "key", message: this.expected }];
    return this.columns.filter((column, at) => !column.accepts(parts[at] ?? "\0")).map((
      { name, expected },
    ) => ({ path: name, message: expected }));
  }

  /** The problems of fields that would give a row a key which no request can write. */
  issuesIn(fields: Row): Issue[] {
    return this.columns.flatMap((column) => {
      const { [column.name]: value } = fields;
      const isWritable = column.plain !== "text" || typeof value !== "string" ||
        column.accepts(value);
      return isWritable ? [] : [{ path: column.name, message: column.expected }];
    });
  }

  /** A description of valid keys. */
  get expected(): string {
    return this.#only?.expected ??
      `Expected ${this.columns.map(({ name }) => name).join(",")}, each percent-encoded`;
  }

  /** The schema for the API's description. */
  get schema(): z.ZodType {
    if (this.#only !== undefined) return this.#only.schema;
    const error = this.expected;
    return z.string({ error }).refine((text) => this.read(text) !== undefined, { error });
  }

  /** The reader of keys after which a list may begin. */
  get before(): KeyReader {
    if (this.#only === undefined) return this;
    const { name, plain } = this.#only;
    return new KeyReader([{ name, plain, max: undefined }], {
      row: z.object({ [name]: this.#only.before.schema }),
    });
  }

  /** The key of a row. */
  of(row: Row): Key {
    return this.columns.map(({ name }) => String(row[name]));
  }
}

/** The key columns that the schema of a row suggests, until Postgres has said which they are. */
export function suggestedKey({ row }: Pick<Resource, "row">): readonly PlainColumn[] | undefined {
  const id = row.shape.id;
  if (id === undefined) return undefined;
  const { type, format } = z.toJSONSchema(id, { io: "input", unrepresentable: "any" });
  if (type === "integer") return [{ name: "id", plain: "integer", max: BigInt(ROWS_MAX) }];
  if (type !== "string") return undefined;
  return [{ name: "id", plain: format === "uuid" ? "uuid" : "text", max: undefined }];
}

/**
 * A number in its one canonical form: decimal digits, no leading zeros, no exponent. `undefined` for any other
 * text, and for more digits than any limit allows.
 */
export function decimalOf(text: string): number | undefined {
  const isNegative = text.charCodeAt(0) === 45;
  const start = isNegative ? 1 : 0;
  const digits = text.length - start;
  if (digits === 0 || digits > 10) return undefined;
  let value = 0;
  for (let at = start; at < text.length; at++) {
    const digit = text.charCodeAt(at) - 48;
    if (digit < 0 || digit > 9) return undefined;
    value = value * 10 + digit;
  }
  if (text.charCodeAt(start) === 48 && (digits > 1 || isNegative)) return undefined;
  return isNegative ? -value : value;
}

/** The schema of whole numbers within limits. */
export function wholeNumber(min: number, max: number): z.ZodInt {
  const error = `Expected a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
}

/** A schema of whole numbers without limits of its own has those of a float. */
function boundsOf(schema: z.core.$ZodType | undefined): { min?: number; max?: number } {
  if (schema === undefined) return {};
  const { minimum, maximum } = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
  return {
    ...(minimum !== undefined && minimum > Number.MIN_SAFE_INTEGER ? { min: minimum } : {}),
    ...(maximum !== undefined && maximum < Number.MAX_SAFE_INTEGER ? { max: maximum } : {}),
  };
}

/** A part of a URL; `undefined`: it is not percent-encoded UTF-8. */
export function decoded(part: string): string | undefined {
  if (!part.includes("%")) return part;
  try {
    return decodeURIComponent(part);
  } catch (error) {
    if (error instanceof URIError) return undefined;
    throw error;
  }
}
