/**
 * Redis keys of logical keys: `{prefix}:{version}:` then the name in braces, then the part.
 *
 * The braces are a Redis Cluster hash tag: a value and its lease share one slot, so one script may
 * touch both. A lease has its part before the name, so that its changes are not followed: every load would
 * be announced three times to every process instead of once.
 *
 * @module
 */

import { shown } from "./errors.ts";

/**
 * The content of a Redis key: the value, its lease, or a tag's version. Under the name of the
 * root tag also: the read counts, the mark of their last decay, the server life that was caught up with, how
 * long tags are needed, and the source of the values.
 */
export type KeyPart =
  | ""
  | ":lease"
  | ":tag"
  | ":popular"
  | ":decayed"
  | ":caught-up"
  | ":tags"
  | ":source"
  | ":source-in-use";

/** The longest logical key or tag, in UTF-16 code units. */
export const KEY_LENGTH_MAX = 200;

// deno-lint-ignore no-control-regex -- control characters are what it is there to refuse
const FORBIDDEN = /[{}\u0000-\u001f\u007f]/;

/**
 * Checks a logical key, or a tag name.
 *
 * @throws {TypeError} It is empty, too long, or contains a brace, a control character or half of a surrogate
 * pair. Half pairs have no UTF-8, so all would become the same Redis key.
 */
export function assertKey(key: string, use: "key" | "tag" = "key"): void {
  if (typeof key === "string" && isKey(key)) return;
  throw new TypeError(
    `Cannot use ${shown(key)} as a ${use}: a string of 1 to ${KEY_LENGTH_MAX} characters, ` +
      "no braces, no control characters, no half of a surrogate pair",
  );
}

/** @throws {TypeError} They are no list: a text has letters, and a set neither a length nor places. */
export function assertKeyList(keys: readonly string[]): void {
  if (!Array.isArray(keys)) throw new TypeError(`Cannot use ${shown(keys)} as keys: use a list`);
}

/** Cuts a list of names, in their order, into batches. */
export function* batchesOf(
  names: readonly string[],
  namesMax: number,
): Generator<readonly string[]> {
  for (let at = 0; at < names.length; at += namesMax) yield names.slice(at, at + namesMax);
}

/** True if a text can be a logical key or a tag name. */
export function isKey(key: string): boolean {
  return key.length > 0 && key.length <= KEY_LENGTH_MAX && !FORBIDDEN.test(key) &&
    key.isWellFormed();
}

/** The Redis keys of one cache. */
export class Keyspace {
  /** The beginning of every key of this cache. */
  readonly prefix: string;
  /** The prefix of keys whose changes are announced here: all but leases. */
  readonly followed: string;
  readonly #neighbours: readonly string[];

  /**
   * @throws {TypeError} The prefix is not made of letters, digits, `_`, `-` or `.`.
   * @throws {RangeError} The version is not a whole number.
   */
  constructor(prefix: string, version: number) {
    if (!/^[\w.-]{1,50}$/.test(prefix)) {
      throw new TypeError(
        `Cannot use ${JSON.stringify(prefix.slice(0, 60))} as a key prefix: ` +
          "1 to 50 letters, digits, dots, _ and -",
      );
    }
    if (!Number.isSafeInteger(version)) {
      throw new RangeError(`Cannot use version ${shown(version)}: it must be a whole number`);
    }
    this.prefix = `${prefix}:${version}:`;
    this.followed = `${this.prefix}{`;
    this.#neighbours = [`${prefix}:${version - 1}:`, `${prefix}:${version + 1}:`];
  }

  /** The Redis key of a part of an entry or tag. */
  of(name: string, part: KeyPart): string {
    return keyOf(this.prefix, name, part);
  }

  /**
   * The same key under the previous and the next key version. During a rolling deployment both are in use, so an
   * invalidation by either must reach both.
   */
  ofNeighbours(name: string, part: KeyPart): string[] {
    return this.#neighbours.map((prefix) => keyOf(prefix, name, part));
  }

  /** Parses an announced Redis key. `undefined` if it does not belong to this cache. */
  parse(redisKey: string): { readonly name: string; readonly part: string } | undefined {
    const end = redisKey.lastIndexOf("}");
    if (!redisKey.startsWith(this.followed) || end < 0) return undefined;
    return { name: redisKey.slice(this.followed.length, end), part: redisKey.slice(end + 1) };
  }
}

function keyOf(prefix: string, name: string, part: KeyPart): string {
  return part === ":lease" ? `${prefix}lease:{${name}}` : `${prefix}{${name}}${part}`;
}
