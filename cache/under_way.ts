/**
 * The set of running work. Each piece has a place, which is reused.
 *
 * A `Set` with frequent additions and deletions keeps deleted items until the next full garbage collection,
 * because its old tables refer to the newer ones. That kept half of the garbage of a miss alive.
 */
export class UnderWay<T> {
  readonly #pieces: (T | undefined)[] = [];
  readonly #free: number[] = [];

  /** Number of running pieces. */
  get size(): number {
    return this.#pieces.length - this.#free.length;
  }

  /** Adds a piece. Answers its place. */
  add(piece: T): number {
    const place = this.#free.pop() ?? this.#pieces.length;
    this.#pieces[place] = piece;
    return place;
  }

  /** Removes the piece in a place. */
  delete(place: number): void {
    this.#pieces[place] = undefined;
    this.#free.push(place);
  }

  /** Every running piece. */
  all(): T[] {
    return this.#pieces.filter((piece): piece is T => piece !== undefined);
  }
}

/** Number of deletions after which the map is copied to a new one. */
const DELETIONS_MAX = 1_000;

/**
 * Running work by key.
 *
 * A `Map` with frequent additions and deletions keeps garbage alive as a `Set` does: its tables form a chain
 * that begins with one that has been promoted to the old generation. A new map ends the chain.
 */
export class UnderWayByKey<T> {
  #pieces = new Map<string, T>();
  #deletions = 0;

  /** Number of keys with running work. */
  get size(): number {
    return this.#pieces.size;
  }

  /** The running work of a key. */
  get(key: string): T | undefined {
    return this.#pieces.get(key);
  }

  /** Adds the work of a key, in place of what it had. */
  set(key: string, piece: T): void {
    this.#pieces.set(key, piece);
  }

  /** Removes the work of a key. */
  delete(key: string): void {
    this.#pieces.delete(key);
    if (++this.#deletions < DELETIONS_MAX) return;
    this.#pieces = new Map(this.#pieces);
    this.#deletions = 0;
  }

  /** Removes all. */
  clear(): void {
    this.#pieces.clear();
  }
}
