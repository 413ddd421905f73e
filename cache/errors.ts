/**
 * The errors that callers of the cache catch by name. Misuse is a `TypeError` or `RangeError`.
 *
 * @module
 */

/** Too many loads are running and waiting, and there was no stale value to serve. Retry later. */
export class LoadRejectedError extends Error {
  /** Names the class in logs. */
  override readonly name = "LoadRejectedError";
}

/** A load ran past its deadline. Its `signal` was aborted with this error. */
export class LoadTimeoutError extends Error {
  /** Names the class in logs. */
  override readonly name = "LoadTimeoutError";
}

/** The cache was closed, so it starts nothing new. */
export class CacheClosedError extends Error {
  /** Names the class in logs. */
  override readonly name = "CacheClosedError";
}
