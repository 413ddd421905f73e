/** The origin of an answer: a tier, or the source of truth. */
export type Source = "memory" | "redis" | "load";

/**
 * A type as it comes back from JSON: a `Date` is a string, a `Map` an empty object, methods are gone. `unknown`
 * and `any` stay. A type may contain itself, so nothing here looks into a property or an item at once.
 */
export type Jsonify<T> = unknown extends T ? T
  : T extends { toJSON(): infer J } ? Jsonify<J>
  : T extends string | number | boolean | null ? T
  : T extends undefined | symbol | bigint | ((...args: never[]) => unknown) ? never
  : T extends ReadonlyMap<unknown, unknown> | ReadonlySet<unknown> ? Record<string, never>
  // In a list, JSON writes `null` for a value that it omits elsewhere.
  : T extends readonly unknown[]
    ? T[number][] extends T
      ? T extends unknown[] ? (Jsonify<T[number]> | (undefined extends T[number] ? null : never))[]
      : readonly (Jsonify<T[number]> | (undefined extends T[number] ? null : never))[]
    : { [I in keyof T]: Jsonify<T[I]> | (undefined extends T[I] ? null : never) }
  : T extends object ? {
      [
        K in keyof T as T[K] extends undefined | symbol | bigint | ((...args: never[]) => unknown)
          ? never
          : Exclude<K, symbol>
      ]: Jsonify<T[K]> | Extract<T[K], undefined>;
    }
  : T;

/**
 * The answer to one read: the value as JSON text, and where it came from.
 *
 * A lookup is immutable and may be shared by many callers, so {@linkcode Lookup.value} parses the text for each
 * call. A server that passes JSON on writes `text` and need not parse it.
 *
 * @typeParam T The shape of the value, as it comes back from JSON.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache } from "@lookaside/cache";
 *
 * await using cache = new Cache();
 * const lookup = await cache.getOrLoad("user:1", () => Promise.resolve({ name: "Ada" }));
 * assert.equal(lookup.text, '{"name":"Ada"}'); // passed on as it is
 * assert.equal(lookup.stale, false);
 * ```
 */
export class Lookup<T = unknown> {
  /** The origin of the answer. */
  readonly source: Source;
  /** The value as JSON or as written by its codec; `null` if the value is known not to exist (a negative entry). */
  readonly text: string | null;
  /** Wall time in milliseconds until which the value is fresh; 0 if it was not stored. */
  readonly freshUntilMs: number;
  /** True if the value was served past its fresh life, within its grace. */
  readonly stale: boolean;
  readonly #read: (text: string) => unknown;

  /** Use the reads of a cache instead: they make lookups. */
  constructor(
    source: Source,
    text: string | null,
    freshUntilMs: number,
    stale: boolean,
    read: (text: string) => unknown = JSON.parse,
  ) {
    this.source = source;
    this.text = text;
    this.freshUntilMs = freshUntilMs;
    this.stale = stale;
    this.#read = read;
    Object.freeze(this); // `readonly` binds nobody who writes JavaScript
  }

  /**
   * Parses the value. `undefined` if it is known not to exist.
   *
   * @example
   * ```ts
   * import assert from "node:assert/strict";
   * import { Cache } from "@lookaside/cache";
   *
   * await using cache = new Cache();
   * const lookup = await cache.getOrLoad("user:1", () => Promise.resolve({ name: "Ada" }));
   * assert.notEqual(lookup.value(), lookup.value()); // parsed for each caller: change it as you like
   * ```
   */
  value(): T | undefined {
    return this.text === null ? undefined : this.#read(this.text) as T;
  }
}
