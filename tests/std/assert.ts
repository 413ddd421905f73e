/**
 * A stand-in for `jsr:@std/assert`, over `node:assert/strict`, for networks that refuse JSR: of the real
 * package the functions that the suite uses, with their signatures and semantics.
 *
 * @module
 */
import { AssertionError, deepStrictEqual, notDeepStrictEqual } from "node:assert/strict";
import { inspect } from "node:util";

export { AssertionError };

type ErrorClassOf<E extends Error> = abstract new (...args: never[]) => E;

/** Asserts that `expr` is truthy. */
export function assert(expr: unknown, msg = ""): asserts expr {
  if (!expr) throw new AssertionError({ message: msg });
}

/** Asserts that `expr` is falsy. */
export function assertFalse(expr: unknown, msg = ""): void {
  assert(!expr, msg);
}

/** Fails. */
export function fail(msg?: string): never {
  throw new AssertionError({ message: `Failed assertion${suffix(msg)}` });
}

/** Asserts that two values are deeply equal; `0` equals `-0`. */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  try {
    deepStrictEqual(comparable(actual), comparable(expected));
  } catch (cause) {
    const { message } = cause as Error;
    throw new AssertionError({ message: `Values are not equal${suffix(msg)}\n${message}` });
  }
}

/** Asserts that two values are not deeply equal. */
export function assertNotEquals<T>(actual: T, expected: T, msg?: string): void {
  notDeepStrictEqual(comparable(actual), comparable(expected), msg);
}

/** Asserts that `Object.is` holds. */
export function assertStrictEquals<T>(actual: unknown, expected: T, msg?: string): void {
  compare(Object.is(actual, expected), [actual, "to be", expected], msg);
}

/** Asserts that a regular expression matches. */
export function assertMatch(actual: string, expected: RegExp, msg?: string): void {
  compare(expected.test(actual), [actual, "to match", expected], msg);
}

/** Asserts that one text contains another. */
export function assertStringIncludes(actual: string, expected: string, msg?: string): void {
  compare(actual.includes(expected), [actual, "to contain", expected], msg);
}

/** Asserts `actual > expected`. */
export function assertGreater<T>(actual: T, expected: T, msg?: string): void {
  compare(actual > expected, [actual, ">", expected], msg);
}

/** Asserts `actual < expected`. */
export function assertLess<T>(actual: T, expected: T, msg?: string): void {
  compare(actual < expected, [actual, "<", expected], msg);
}

/** Asserts `actual <= expected`. */
export function assertLessOrEqual<T>(actual: T, expected: T, msg?: string): void {
  compare(actual <= expected, [actual, "<=", expected], msg);
}

/** Asserts that two numbers differ by `tolerance` at most; by default a ten-millionth of `expected`. */
export function assertAlmostEquals(
  actual: number,
  expected: number,
  tolerance: number = Math.abs(expected * 1e-7),
  msg?: string,
): void {
  compare(Math.abs(expected - actual) <= tolerance, [actual, "to be close to", expected], msg);
}

/** Asserts that `fn` throws, and answers the thrown value. */
export function assertThrows(fn: () => unknown): unknown;
/** Asserts that `fn` throws an error of that class, whose message holds that text, and answers it. */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  ErrorClass: ErrorClassOf<E>,
  msgIncludes?: string,
): E;
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  ErrorClass?: ErrorClassOf<E>,
  msgIncludes = "",
): E {
  try {
    fn();
  } catch (error) {
    return checked(error, ErrorClass, msgIncludes);
  }
  return fail("Expected function to throw");
}

/** Asserts that `fn` answers a promise that rejects, and answers the reason. */
export function assertRejects(fn: () => PromiseLike<unknown>): Promise<unknown>;
/** Asserts that `fn` answers a promise that rejects with such an error, and answers it. */
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  ErrorClass: ErrorClassOf<E>,
  msgIncludes?: string,
): Promise<E>;
export async function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  ErrorClass?: ErrorClassOf<E>,
  msgIncludes = "",
): Promise<E> {
  let promise: PromiseLike<unknown>;
  try {
    promise = fn();
  } catch (cause) {
    return fail(`Function throws when expected to reject: ${cause}`);
  }
  try {
    await promise;
  } catch (error) {
    return checked(error, ErrorClass, msgIncludes);
  }
  return fail("Expected function to reject");
}

/** Rewrites what Node alone tells apart: `-0` and `0`, objects with and without the ordinary prototype. */
function comparable(value: unknown, seen: Map<object, object> = new Map()): unknown {
  if (value === 0) return 0;
  if (typeof value !== "object" || value === null) return value;
  const known = seen.get(value);
  if (known) return known;
  const prototype = Object.getPrototypeOf(value);
  if (!Array.isArray(value) && prototype !== null && prototype !== Object.prototype) return value;
  const copy = Array.isArray(value) ? [] : {};
  seen.set(value, copy);
  for (const key of Reflect.ownKeys(value)) {
    if (Array.isArray(value) && key === "length") continue;
    // Defines rather than assigns: a key may be `__proto__`.
    const item = { value: comparable(Reflect.get(value, key), seen) };
    Object.defineProperty(copy, key, {
      ...item,
      configurable: true,
      enumerable: true,
      writable: true,
    });
  }
  return copy;
}

function checked<E extends Error>(
  error: unknown,
  expected: ErrorClassOf<E> | undefined,
  msgIncludes: string,
): E {
  if (expected === undefined) return error as E;
  compare(error instanceof expected, [error, "to be a", expected.name]);
  assertStringIncludes((error as E).message, msgIncludes);
  return error as E;
}

function compare(
  holds: boolean,
  [actual, relation, expected]: readonly [unknown, string, unknown],
  msg?: string,
): void {
  assert(holds, `Expected ${inspect(actual)} ${relation} ${inspect(expected)}${suffix(msg)}`);
}

function suffix(msg: string | undefined): string {
  return msg ? `: ${msg}` : ".";
}
