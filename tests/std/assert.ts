/**
 * A stand-in for `jsr:@std/assert`, over `node:assert/strict`, for networks that refuse JSR. It has
 * only functions that the real package has, with their signatures and semantics, so that the suite
 * runs unchanged under either import map.
 *
 * @module
 */
import { deepStrictEqual, notDeepStrictEqual } from "node:assert/strict";
import { inspect } from "node:util";

type ErrorConstructorOf<E extends Error> = abstract new (...args: never[]) => E;

/** What {@linkcode assertFalse} lets through. */
export type Falsy = false | 0 | 0n | "" | null | undefined;

/** Thrown by every assertion of this module that does not hold. */
export class AssertionError extends Error {
  /** Names the class in reports. */
  override readonly name = "AssertionError";
}

/** Asserts that `expr` is truthy. */
export function assert(expr: unknown, msg = ""): asserts expr {
  if (!expr) throw new AssertionError(msg);
}

/** Asserts that `expr` is falsy. */
export function assertFalse(expr: unknown, msg = ""): asserts expr is Falsy {
  if (expr) throw new AssertionError(msg);
}

/** Fails. */
export function fail(msg?: string): never {
  throw new AssertionError(`Failed assertion${suffix(msg)}`);
}

/** Asserts that two values are deeply equal; `0` equals `-0` and `NaN` equals `NaN`. */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  try {
    deepStrictEqual(comparable(actual), comparable(expected));
  } catch (cause) {
    throw new AssertionError(`Values are not equal${suffix(msg)}\n${messageOf(cause)}`, { cause });
  }
}

/** Asserts that two values are not deeply equal. */
export function assertNotEquals<T>(actual: T, expected: T, msg?: string): void {
  try {
    notDeepStrictEqual(comparable(actual), comparable(expected));
  } catch (cause) {
    const message = `Expected actual: ${inspect(actual)} not to be: ${inspect(expected)}`;
    throw new AssertionError(message + suffix(msg), { cause });
  }
}

/** Asserts that `Object.is` holds. */
export function assertStrictEquals<T>(
  actual: unknown,
  expected: T,
  msg?: string,
): asserts actual is T {
  if (Object.is(actual, expected)) return;
  throw new AssertionError(
    `Values are not strictly equal${suffix(msg)}\n  actual: ${inspect(actual)}\nexpected: ${
      inspect(expected)
    }`,
  );
}

/** Asserts that `Object.is` does not hold. */
export function assertNotStrictEquals<T>(actual: T, expected: T, msg?: string): void {
  if (!Object.is(actual, expected)) return;
  throw new AssertionError(
    `Expected "actual" to not be strictly equal to: ${inspect(actual)}${suffix(msg)}`,
  );
}

/** Asserts that a value is neither `null` nor `undefined`. */
export function assertExists<T>(actual: T, msg?: string): asserts actual is NonNullable<T> {
  if (actual !== undefined && actual !== null) return;
  throw new AssertionError(
    `Expected actual: "${actual}" to not be null or undefined${suffix(msg)}`,
  );
}

/** Asserts that a value was made by a class. */
export function assertInstanceOf<T>(
  actual: unknown,
  expectedType: abstract new (...args: never[]) => T,
  msg?: string,
): asserts actual is T {
  if (actual instanceof expectedType) return;
  throw new AssertionError(
    `Expected object to be an instance of "${expectedType.name}" but was ${inspect(actual)}${
      suffix(msg)
    }`,
  );
}

/** Asserts that a regular expression matches. */
export function assertMatch(actual: string, expected: RegExp, msg?: string): void {
  if (expected.test(actual)) return;
  throw new AssertionError(`Expected actual: "${actual}" to match: "${expected}"${suffix(msg)}`);
}

/** Asserts that a regular expression does not match. */
export function assertNotMatch(actual: string, expected: RegExp, msg?: string): void {
  if (!expected.test(actual)) return;
  throw new AssertionError(
    `Expected actual: "${actual}" to not match: "${expected}"${suffix(msg)}`,
  );
}

/** Asserts that one text contains another. */
export function assertStringIncludes(actual: string, expected: string, msg?: string): void {
  if (actual.includes(expected)) return;
  throw new AssertionError(`Expected actual: "${actual}" to contain: "${expected}"${suffix(msg)}`);
}

/** Asserts `actual > expected`. */
export function assertGreater<T>(actual: T, expected: T, msg?: string): void {
  if (actual > expected) return;
  throw new AssertionError(msg ?? `Expect ${inspect(actual)} > ${inspect(expected)}`);
}

/** Asserts `actual >= expected`. */
export function assertGreaterOrEqual<T>(actual: T, expected: T, msg?: string): void {
  if (actual >= expected) return;
  throw new AssertionError(msg ?? `Expect ${inspect(actual)} >= ${inspect(expected)}`);
}

/** Asserts `actual < expected`. */
export function assertLess<T>(actual: T, expected: T, msg?: string): void {
  if (actual < expected) return;
  throw new AssertionError(msg ?? `Expect ${inspect(actual)} < ${inspect(expected)}`);
}

/** Asserts `actual <= expected`. */
export function assertLessOrEqual<T>(actual: T, expected: T, msg?: string): void {
  if (actual <= expected) return;
  throw new AssertionError(msg ?? `Expect ${inspect(actual)} <= ${inspect(expected)}`);
}

/** Asserts that two numbers differ by `tolerance` at most; by default a ten-millionth of `expected`. */
export function assertAlmostEquals(
  actual: number,
  expected: number,
  tolerance: number = Number.isFinite(expected) ? Math.abs(expected * 1e-7) : 1e-7,
  msg?: string,
): void {
  if (Object.is(actual, expected)) return;
  const delta = Math.abs(expected - actual);
  if (delta <= tolerance) return;
  throw new AssertionError(
    `Expected actual: "${actual}" to be close to "${expected}": delta "${delta}" is greater than "${tolerance}"${
      suffix(msg)
    }`,
  );
}

/** Asserts that `actual` has at least what `expected` has, at every depth. */
export function assertObjectMatch(actual: object, expected: object, msg?: string): void {
  assertEquals(intersection(actual, expected), intersection(expected, expected), msg);
}

/** Asserts that `fn` throws, and answers what. */
export function assertThrows(fn: () => unknown, msg?: string): unknown;
/** Asserts that `fn` throws a certain error, and answers it. */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  ErrorClass: ErrorConstructorOf<E>,
  msgIncludes?: string,
  msg?: string,
): E;
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  errorClassOrMsg?: ErrorConstructorOf<E> | string,
  msgIncludes?: string,
  msg?: string,
): unknown {
  try {
    fn();
  } catch (error) {
    checkError(error, errorClassOrMsg, [msgIncludes, msg]);
    return error;
  }
  throw new AssertionError(
    `Expected function to throw${
      suffix(typeof errorClassOrMsg === "string" ? errorClassOrMsg : msg)
    }`,
  );
}

/** Asserts that `fn` answers a promise that rejects, and answers with what. */
export function assertRejects(fn: () => PromiseLike<unknown>, msg?: string): Promise<unknown>;
/** Asserts that `fn` answers a promise that rejects with a certain error, and answers it. */
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  ErrorClass: ErrorConstructorOf<E>,
  msgIncludes?: string,
  msg?: string,
): Promise<E>;
export async function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  errorClassOrMsg?: ErrorConstructorOf<E> | string,
  msgIncludes?: string,
  msg?: string,
): Promise<unknown> {
  const said = suffix(typeof errorClassOrMsg === "string" ? errorClassOrMsg : msg);
  let promise: PromiseLike<unknown>;
  try {
    promise = fn();
  } catch (cause) {
    throw new AssertionError(`Function throws when expected to reject${said}`, { cause });
  }
  if (typeof promise?.then !== "function") {
    throw new AssertionError(`Function throws when expected to reject${said}`);
  }
  try {
    await promise;
  } catch (error) {
    checkError(error, errorClassOrMsg, [msgIncludes, msg]);
    return error;
  }
  throw new AssertionError(`Expected function to reject${said}`);
}

function checkError<E extends Error>(
  error: unknown,
  expected: ErrorConstructorOf<E> | string | undefined,
  [msgIncludes, msg]: [msgIncludes: string | undefined, msg: string | undefined],
): void {
  if (expected === undefined || typeof expected === "string") return;
  if (!(error instanceof expected)) {
    throw new AssertionError(
      `Expected error to be instance of "${expected.name}", but was ${inspect(error)}${
        suffix(msg)
      }`,
      { cause: error },
    );
  }
  if (msgIncludes && !error.message.includes(msgIncludes)) {
    throw new AssertionError(
      `Expected error message to include ${JSON.stringify(msgIncludes)}, but got ${
        JSON.stringify(error.message)
      }${suffix(msg)}`,
      { cause: error },
    );
  }
}

/**
 * Rewrites what Node tells apart and the real package does not: `-0` and `0`, and objects with and
 * without the ordinary prototype.
 */
function comparable(value: unknown, seen: Map<object, object> = new Map()): unknown {
  if (value === 0) return 0;
  if (typeof value !== "object" || value === null) return value;
  const known = seen.get(value);
  if (known) return known;
  if (Array.isArray(value)) {
    const copy: unknown[] = [];
    seen.set(value, copy);
    for (const item of value) copy.push(comparable(item, seen));
    return copy;
  }
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== null && prototype !== Object.prototype) return value;
  const copy = {};
  seen.set(value, copy);
  for (const key of Reflect.ownKeys(value)) {
    put(copy, key, comparable(Reflect.get(value, key), seen));
  }
  return copy;
}

/** What of `actual` is also named by `expected`. Not for cyclic values. */
function intersection(actual: unknown, expected: unknown): unknown {
  if (!isContainer(actual) || !isContainer(expected)) return actual;
  if (Array.isArray(actual) && Array.isArray(expected)) {
    return actual.slice(0, expected.length).map((item, at) => intersection(item, expected[at]));
  }
  if (actual instanceof Map && expected instanceof Map) {
    return new Map(
      [...actual].filter(([key]) => expected.has(key))
        .map(([key, item]) => [key, intersection(item, expected.get(key))]),
    );
  }
  if (actual instanceof Set && expected instanceof Set) return actual.intersection(expected);
  const keys = Reflect.ownKeys(actual);
  const common = keys.filter((key) => Object.hasOwn(expected, key));
  const copy = {};
  // Nothing in common: keep all, so that the report shows what there was.
  for (const key of common.length > 0 ? common : keys) {
    put(copy, key, intersection(Reflect.get(actual, key), Reflect.get(expected, key)));
  }
  return copy;
}

function isContainer(value: unknown): value is object {
  return typeof value === "object" && value !== null && !(value instanceof Date) &&
    !(value instanceof RegExp);
}

/** Defines rather than assigns: a key may be `__proto__`. */
function put(target: object, key: PropertyKey, value: unknown): void {
  Object.defineProperty(target, key, {
    value,
    configurable: true,
    enumerable: true,
    writable: true,
  });
}

function suffix(msg: string | undefined): string {
  return msg ? `: ${msg}` : ".";
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
