/**
 * A promise that is settled from outside.
 *
 * @module
 */

/** A promise, and what settles it. */
export interface Deferred<T> {
  /** The promise. */
  readonly promise: Promise<T>;
  /** Resolves it. */
  readonly resolve: (value: T | PromiseLike<T>) => void;
  /** Rejects it. */
  readonly reject: (reason: unknown) => void;
}

/** As `Promise.withResolvers`, which Node has since 22 and this module runs on 20 too. */
export function deferred<T>(): Deferred<T> {
  let resolve: Deferred<T>["resolve"] = unsettled;
  let reject: Deferred<T>["reject"] = unsettled;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}

/** Stands in until the promise has been made, which it is before anyone can call this. */
function unsettled(): never {
  throw new TypeError("Cannot settle the promise: it has not been made");
}
