import type { OutboxRow } from "./_outbox.ts";

/** Marks that are remembered at the most: those of a second, and some. */
const MARKS_MAX = 20_000;
/** Marks that are noted at once. */
const BATCH_MAX = 1_000;

/** The marks that this process has given to its own writes, and which of them it has invalidated. */
export class Marks {
  /** Name that others know this process by. */
  readonly writer: string;
  readonly #invalidated = new Set<string>();
  #unnoted: string[] = [];
  #count = 0;

  constructor(writer: string) {
    this.writer = writer;
  }

  /** Whether there is a write of this process that others may wait for. */
  get inUse(): boolean {
    return this.#count > 0;
  }

  /** A mark that no other write has. */
  next(): string {
    return `${this.writer}.${(this.#count++).toString(36)}`;
  }

  /** Notes that a write with this mark is committed, and everything invalidated that it changed. */
  add(mark: string): void {
    this.#invalidated.add(mark);
    this.#unnoted.push(mark);
    if (this.#unnoted.length > MARKS_MAX) this.#unnoted.shift(); // the relay applies it after a second
    if (this.#invalidated.size <= MARKS_MAX) return;
    for (const oldest of this.#invalidated) {
      this.#invalidated.delete(oldest);
      break;
    }
  }

  /** Takes those that no other process has been told of. */
  take(): readonly string[] {
    return this.#unnoted.splice(0, BATCH_MAX);
  }

  /** Puts back what could not be told. */
  putBack(marks: readonly string[]): void {
    this.#unnoted = [...marks, ...this.#unnoted];
  }

  /** Splits rows into those to apply, and the transactions to leave to their writers for a while. */
  split(rows: readonly OutboxRow[]): { due: OutboxRow[]; held: ReadonlySet<string> } {
    const due: OutboxRow[] = [];
    const held = new Set<string>();
    for (const [xid, ofOne] of Map.groupBy(rows, (row) => row.xid)) {
      const left = ofOne.filter((row) => !this.#isDone(row));
      // All or nothing: what is applied now would be applied again with the rest.
      if (left.length > 0 && left.every((row) => row.held)) held.add(xid);
      else due.push(...left);
    }
    return { due, held };
  }

  #isDone({ writer, done }: OutboxRow): boolean {
    return done || writer !== null && this.#invalidated.has(writer);
  }
}
