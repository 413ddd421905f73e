import type { Jsonify, Lookup } from "./lookup.ts";

/**
 * A read whose caller loads and stores separately, as an ORM's cache does; made by {@linkcode Cache.begin}. As
 * with a loader, an invalidation between its beginning and {@linkcode Slot.fill} refuses the value.
 */
export interface Slot<T, V = Jsonify<T>> extends AsyncDisposable {
  /** True if a fresh value is cached: use {@linkcode Slot.value}. */
  readonly hit: boolean;
  /** The cached value. `undefined` if there is none, or if it is known not to exist. */
  value(): V | undefined;
  /**
   * Caches the value that the caller has loaded. Answers `false` if it is not stored: the key or a tag was
   * invalidated meanwhile, another caller is loading the key, the lease has ended, or Redis is unavailable.
   */
  fill(value: T | null | undefined): Promise<boolean>;
  /** Gives up the right to fill. Called by itself at the end of an `await using` block. */
  release(): Promise<void>;
}

/** The right of a slot to fill. */
type Right<T> = Pick<Slot<T>, "fill" | "release">;

/** Makes a slot from a found value or from the right to fill. */
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
