/**
 * Work that is under way. Each piece has a place, which is used again afterwards.
 *
 * A `Set` that is added to and deleted from all the time keeps what was deleted until the next full garbage
 * collection, as its old tables refer to the newer ones. That made half of the garbage of a miss survive.
 */
export class UnderWay<T> {
  readonly #pieces: (T | undefined)[] = [];
  readonly #free: number[] = [];

  /** How many pieces are under way. */
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

  /** Every piece that is under way. */
  all(): T[] {
    return this.#pieces.filter((piece): piece is T => piece !== undefined);
  }
}
