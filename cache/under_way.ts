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
