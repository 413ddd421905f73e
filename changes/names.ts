/**
 * The names of rows and values, by the same rule here and in SQL (schema.ts), so that triggers record the names
 * that entries carry.
 *
 * @module
 */
import { createHash } from "node:crypto";

/** A value of a column, of a type with the same text in Postgres and in JavaScript. */
export type Value = string | number | bigint | boolean;

/** A table: its name, after its schema and a dot unless that is `public`; or both as they are. */
export type TableName = string | readonly [schema: string, table: string];

const PLAIN = /^[A-Za-z0-9_.@+-]{1,64}$/;
/** Hexadecimal digits of a hash. */
const HASH_LENGTH = 40;
/** The longest name that the cache accepts. */
const NAME_LENGTH_MAX = 200;

/** A text as part of a name: itself, or a hash if it is long or has other characters. */
export function plain(text: string): string {
  return PLAIN.test(text) ? text : hashed(text);
}

/** The label of a table, with which its names begin. */
export function labelOf(name: TableName): string {
  const [schema, table] = partsOf(name);
  return schema === "public" ? part(table) : `${part(schema)}.${part(table)}`;
}

/**
 * The schema and the name of a table.
 *
 * @throws {TypeError} It is no name.
 */
export function partsOf(name: TableName): readonly [schema: string, table: string] {
  if (Array.isArray(name) && name.length === 2) return name as readonly [string, string];
  if (typeof name !== "string") {
    throw new TypeError(`Cannot use ${typeof name} as a table: pass its name, or [schema, name]`);
  }
  const dot = name.indexOf(".");
  return dot < 0 ? ["public", name] : [name.slice(0, dot), name.slice(dot + 1)];
}

/** The key of a row: the values of its key columns. */
export function keyOf(values: readonly Value[]): string {
  return values.map((value) => plain(textOf(value))).join(",");
}

/** A value of a column. */
export function valueOf(column: string, value: Value | null): string {
  return value === null ? plain(column) : `${plain(column)}=${plain(textOf(value))}`;
}

/** The cache key, and tag, of a row. */
export function rowName(label: string, key: string): string {
  return bounded(`${label}:`, key);
}

/** The tag of all entries that depend on the rows with a value. */
export function valueTag(label: string, value: string): string {
  return bounded(`${label}:`, value);
}

/** The tag of all entries that depend on any row. */
export function anyTag(label: string): string {
  return bounded(`${label}:`, "any");
}

/** The tag of all entries of a table. */
export function tableTag(label: string): string {
  return bounded(`${label}:`, "*");
}

/** The cache key of a query for rows with these values. `as` distinguishes several such queries. */
export function whereKey(label: string, values: readonly string[], as: string): string {
  return bounded(`${label}:?`, [...values].sort().join("&") + (as === "" ? "" : `&:${quoted(as)}`));
}

/** The cache key of a query over the whole table. */
export function anyKey(label: string, name: string): string {
  return bounded(`${label}:/`, quoted(name));
}

/**
 * The text of a value, as Postgres writes it.
 *
 * @throws {TypeError} It is a number but no safe integer, so it has several texts; it is an object, null or
 * undefined, whose text others have too; or it contains the character 0 or half of a surrogate pair, which no
 * value of Postgres does.
 */
export function textOf(value: Value): string {
  if (value === null || typeof value === "object" || value === undefined) {
    throw new TypeError(
      `Cannot name ${value === null ? "null" : typeof value}: pass a text, a number or a boolean`,
    );
  }
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw new TypeError(`Cannot name ${value}: only safe integers have one text`);
  }
  const text = `${value}`;
  if (text.includes("\0") || !text.isWellFormed()) {
    throw new TypeError("Cannot name a text with the character 0 or half of a surrogate pair");
  }
  return text;
}

/** A name with a dot is hashed, because a dot separates schema and table. */
function part(name: string): string {
  return name.includes(".") ? hashed(name) : plain(name);
}

/** A given name, hashed if the cache does not accept it. */
function quoted(name: string): string {
  textOf(name);
  return /^[\p{L}\p{N}\p{P}\p{S} ]{1,100}$/u.test(name) && !/[{}#]/.test(name)
    ? name
    : hashed(name);
}

function bounded(head: string, rest: string): string {
  return head.length + rest.length > NAME_LENGTH_MAX ? head + hashed(rest) : head + rest;
}

function hashed(text: string): string {
  return `#${createHash("sha256").update(text, "utf8").digest("hex").slice(0, HASH_LENGTH)}`;
}
