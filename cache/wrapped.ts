import { createHash } from "node:crypto";
import type { Invalidation } from "./changes.ts";
import { assertKey, KEY_LENGTH_MAX } from "./keys.ts";
import type { Jsonify, Lookup } from "./lookup.ts";
import { assertEntryOptions, type EntryOptions } from "./options.ts";

/** A function whose results are cached; made by {@linkcode Cache.wrap}. */
export interface Wrapped<A extends readonly unknown[], T, V = Jsonify<T>> {
  /** Answers the cached result for these arguments, or else calls the function. `undefined`: it does not exist. */
  (...args: A): Promise<V | undefined>;
  /** Answers a {@linkcode Lookup}, with its source and the JSON. */
  lookup(...args: A): Promise<Lookup<V>>;
  /** Calls the function even if its result is cached, and caches the new result. */
  refresh(...args: A): Promise<Lookup<V>>;
  /** Invalidates the result for these arguments. */
  invalidate(...args: A): Promise<Invalidation>;
  /** The key of the result for these arguments. */
  keyOf(...args: A): string;
}

/** The part of a cache that a wrapped function uses. */
export interface WrappingCache {
  getOrLoad<T, V = Jsonify<T>>(
    key: string,
    load: () => Promise<T | null | undefined>,
    options?: EntryOptions<T, V>,
  ): Promise<Lookup<NoInfer<V>>>;
  delete(...keys: string[]): Promise<Invalidation>;
}

/** The longest name, which leaves room in a key for the hash of all arguments. */
const NAME_LENGTH_MAX = KEY_LENGTH_MAX - 24;

/**
 * Makes a function whose results are cached.
 *
 * @throws {TypeError} The name or an option cannot be used.
 */
export function wrapped<A extends readonly unknown[], T, V>(
  cache: WrappingCache,
  name: string,
  call: (...args: A) => Promise<T | null | undefined>,
  options: EntryOptions<T, V>,
): Wrapped<A, T, V> {
  assertKey(name);
  assertEntryOptions(options);
  if (name.length > NAME_LENGTH_MAX) {
    throw new TypeError(
      `Cannot wrap under a name of ${name.length} characters: at most ${NAME_LENGTH_MAX}`,
    );
  }
  const keyOf = (...args: A): string => keyOfCall(name, args);
  const read = (args: A, how: EntryOptions<T, V>): Promise<Lookup<V>> =>
    cache.getOrLoad(keyOf(...args), () => call(...args), how);
  // `async`, so that arguments without a stable form reject and do not throw.
  const lookup = async (...args: A): Promise<Lookup<V>> => await read(args, options);
  const refresh = async (...args: A): Promise<Lookup<V>> =>
    await read(args, { ...options, refresh: true });
  const invalidate = async (...args: A): Promise<Invalidation> =>
    await cache.delete(keyOf(...args));
  const answer = async (...args: A): Promise<V | undefined> => (await read(args, options)).value();
  return Object.assign(answer, { lookup, refresh, invalidate, keyOf });
}

/** Argument texts that are used in keys as they are. Any ambiguous text is hashed. */
const PLAIN = /^[a-z_][\w.-]{0,47}$/i;

/**
 * Makes the key of a call: the name, then each argument, hashed unless it is a number or a short word. If that
 * is too long, all arguments become one hash.
 *
 * @throws {TypeError} An argument has no stable form.
 */
export function keyOfCall(name: string, args: readonly unknown[]): string {
  const given = args.slice(0, args.findLastIndex((arg) => arg !== undefined) + 1);
  const parts = given.map((arg, i) => {
    if (typeof arg === "number" && Number.isFinite(arg) && !Object.is(arg, -0)) return String(arg);
    if (typeof arg === "string" && PLAIN.test(arg)) return arg;
    return hash(stableText(arg, `argument ${i + 1} of ${name}`));
  });
  const key = [name, ...parts].join(":");
  return key.length <= 150 ? key : `${name}:${hash(parts.join(":"))}`;
}

function hash(text: string): string {
  return `~${createHash("sha256").update(text).digest("base64url").slice(0, 22)}`;
}

/** A text that is equal for equal values, in any order of their properties, and differs for others. */
function stableText(value: unknown, where: string, above: readonly unknown[] = []): string {
  if (value === null || ["string", "number", "boolean", "undefined"].includes(typeof value)) {
    return Object.is(value, -0)
      ? "-0"
      : typeof value === "string"
      ? JSON.stringify(value)
      : String(value);
  }
  if (typeof value === "bigint") return `${value}n`;
  if (above.includes(value)) {
    throw new TypeError(`Cannot make a key of ${where}: it contains itself`);
  }
  const textOfPart = (part: unknown) => stableText(part, where, [...above, value]);
  if (Array.isArray(value)) return `[${value.map(textOfPart).join()}]`;
  if (value instanceof Date && Number.isFinite(value.getTime())) return `Date(${value.getTime()})`;
  if (typeof value === "object") {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype === Object.prototype || prototype === null) {
      const properties = Object.entries(value).filter(([, item]) => item !== undefined)
        .sort(([a], [b]) => a < b ? -1 : 1)
        .map(([name, item]) => `${JSON.stringify(name)}:${textOfPart(item)}`);
      return `{${properties.join()}}`;
    }
  }
  const kind = typeof value === "object" ? value.constructor?.name ?? "object" : typeof value;
  throw new TypeError(`Cannot make a key of ${where}: a ${kind} has no stable form`);
}
