/**
 * The errors that callers of the cache catch by name. Misuse is a `TypeError` or `RangeError`.
 *
 * @module
 */

/** A refused argument, as an error shows it. Secrets are texts too: show none that may be one. */
export function shown(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 40));
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function" || typeof value === "symbol") return `a ${typeof value}`;
  if (typeof value !== "object" || value === null) return String(value);
  return Array.isArray(value) ? "a list" : "an object";
}

/**
 * Refuses what holds no options, as a list, a Map or a promise. An instance of a class may hold them, and so may a
 * module.
 *
 * @throws {TypeError} It is no object, or one that is built in.
 */
export function assertObject(options: unknown): void {
  const kind = Object.prototype.toString.call(options).slice("[object ".length, -1).toLowerCase();
  if (kind === "object" || kind === "module") return;
  const given = /^(null|undefined)$/.test(kind)
    ? kind
    : `${/^[aeiou]/.test(kind) ? "an" : "a"} ${kind}`;
  throw new TypeError(`Cannot use ${given} as options: they are an object`);
}

/**
 * Too many loads are running and waiting, and there was no stale value to serve. Retry later.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache, LoadRejectedError } from "@lookaside/cache";
 *
 * await using cache = new Cache({ loadsMax: 1, loadsWaitingMax: 0 });
 * const never = () => new Promise<number>(() => {});
 * const running = cache.getOrLoad("a", never).catch(() => undefined);
 * await assert.rejects(cache.getOrLoad("b", never), LoadRejectedError); // answer 503, retry later
 * void running; // ends when the cache is closed
 * ```
 */
export class LoadRejectedError extends Error {
  /** Names the class in logs. */
  override readonly name = "LoadRejectedError";
}

/**
 * A load exceeded its time limit. Its `signal` was aborted with this error.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache, LoadTimeoutError } from "@lookaside/cache";
 *
 * await using cache = new Cache({ loadTimeoutMs: 20 });
 * await assert.rejects(cache.getOrLoad("a", () => new Promise(() => {})), LoadTimeoutError);
 * ```
 */
export class LoadTimeoutError extends Error {
  /** Names the class in logs. */
  override readonly name = "LoadTimeoutError";
}

/**
 * The cache is closed and starts nothing new.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache, CacheClosedError } from "@lookaside/cache";
 *
 * const cache = new Cache();
 * await cache.close();
 * await assert.rejects(cache.getOrLoad("a", () => Promise.resolve(1)), CacheClosedError);
 * ```
 */
export class CacheClosedError extends Error {
  /** Names the class in logs. */
  override readonly name = "CacheClosedError";
}

/**
 * A loaded or set value does not match the schema of its options. The message says why.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache, SchemaError } from "@lookaside/cache";
 * import { z } from "zod";
 *
 * await using cache = new Cache();
 * const read = cache.getOrLoad("a", () => Promise.resolve("1"), { schema: z.number() });
 * await assert.rejects(read, SchemaError);
 * ```
 */
export class SchemaError extends Error {
  /** Names the class in logs. */
  override readonly name = "SchemaError";
}

/**
 * The servers hold values from another source of truth, and a program that uses it is running.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { OtherSourceError } from "@lookaside/cache";
 *
 * const error = new OtherSourceError("la:1:", { own: "shop", other: "blog" });
 * assert.match(error.message, /shop.*la:1:.*blog/);
 * ```
 */
export class OtherSourceError extends Error {
  /** Names the class in logs. */
  override readonly name = "OtherSourceError";

  /** Names both sources. */
  constructor(prefix: string, { own, other }: { readonly own: string; readonly other: string }) {
    super(
      `Cannot use this Redis for ${own}: its keys under ${prefix} are in use for ${other}. ` +
        "Give each its own prefix, or stop the programs that use the other, and wait a minute",
    );
  }
}
