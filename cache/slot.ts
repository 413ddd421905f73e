import type { Jsonify, Lookup } from "./lookup.ts";

/**
 * A read of a caller that gets and puts apart, as an ORM's cache does: {@linkcode Cache.begin} makes it. An
 * invalidation between its beginning and {@linkcode Slot.fill} refuses the value, as it does for a loader.
 */
export interface Slot<T, V = Jsonify<T>> extends AsyncDisposable {
  /** True if a fresh value is cached: answer {@linkcode Slot.value}. */
  readonly hit: boolean;
  /** The cached value. `undefined` without one, and if it is known not to exist. */
  value(): V | undefined;
  /**
   * Caches the value that the caller has got since. Answers `false` if it is not stored: the key or a tag
   * was invalidated meanwhile, somebody else is loading it, the lease is over, or Redis is away.
   */
  fill(value: T | null | undefined): Promise<boolean>;
  /** Gives the right to fill back. Happens by itself at the end of an `await using` block. */
  release(): Promise<void>;
}

/** The right to fill that a slot has: `undefined` without one. */
export interface Right<T> {
  fill(value: T | null | undefined): Promise<boolean>;
  release(): Promise<void>;
}

/** Makes a slot of what a look-up found, or of the right to fill. */
export function slotOf<T, V>(
  found: Lookup | undefined,
  right: Right<T> | undefined,
): Slot<T, V> {
  let open = right;
  const take = (): Right<T> | undefined => {
    const taken = open;
    open = undefined;
    return taken;
  };
  const release = async (): Promise<void> => await take()?.release();
  return {
    hit: found !== undefined,
    value: () => found?.value() as V | undefined,
    fill: async (value) => await take()?.fill(value) ?? false,
    release,
    [Symbol.asyncDispose]: release,
  };
}
