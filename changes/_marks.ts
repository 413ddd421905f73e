import type { Change, Invalidated } from "./apply.ts";
import { changeOf, GRACE_MS, type OutboxRow, type Settled } from "./_outbox.ts";

/** Limit of remembered marks: those of a second, with a margin. */
const MARKS_MAX = 5_000;
/** Number of marks that others are told of at once. */
const BATCH_MAX = 500;

/** Makes the names of the entries that depend on a change. */
export type NamesOf = (change: Change) => Invalidated;

/**
 * The marks that this process has given to its own writes, and the names that it has invalidated for them.
 *
 * A transaction may change more than its writer knows, by a cascading foreign key, a trigger or another
 * statement. So a mark alone proves nothing: a row counts as applied only if its writer has invalidated every
 * name that depends on it.
 */
export class Marks {
  /** The name of this process for others. */
  readonly writer: string;
  readonly #namesOf: NamesOf;
  readonly #open = new Set<string>();
  readonly #settled = new Map<string, Invalidated>();
  readonly #untold: Settled[] = [];
  #count = 0;

  constructor(writer: string, namesOf: NamesOf) {
    this.writer = writer;
    this.#namesOf = namesOf;
  }

  /** Makes a unique mark. It is open until it is settled. */
  open(): string {
    const mark = `${this.writer}.${(this.#count++).toString(36)}`;
    this.#open.add(mark);
    dropFirst(this.#open);
    return mark;
  }

  /** Notes that a write is over, and the names that were invalidated. */
  settle({ mark, names }: Settled): void {
    this.#open.delete(mark);
    this.#settled.set(mark, names);
    dropFirst(this.#settled);
  }

  /** Tells other processes that a write is over. */
  tell(settled: Settled): void {
    this.#untold.push(settled);
    if (this.#untold.length > MARKS_MAX) this.#untold.shift(); // the relay applies its rows after a second
  }

  /** Takes a batch of the marks that others must be told of. */
  take(): readonly Settled[] {
    return this.#untold.splice(0, BATCH_MAX);
  }

  /** Splits rows into those to apply now, and the transactions to leave to their writers for a while. */
  split(rows: readonly OutboxRow[]): { due: OutboxRow[]; held: ReadonlySet<string> } {
    const due: OutboxRow[] = [];
    const held = new Set<string>();
    for (const [xid, ofOne] of Map.groupBy(rows, (row) => row.xid)) {
      const left = ofOne.filter((row) => !this.#isDone(row));
      // All or nothing: rows that are applied now would be applied again with the rest.
      if (left.length > 0 && left.every((row) => this.#isHeld(row))) held.add(xid);
      else due.push(...left);
    }
    return { due, held };
  }

  #isHeld({ writer, openMs, isKnown, settled }: OutboxRow): boolean {
    if (writer === null || openMs >= GRACE_MS) return false;
    return this.#isOwn(writer) ? this.#open.has(writer) : isKnown && settled === null;
  }

  #isDone(row: OutboxRow): boolean {
    if (row.writer === null) return false;
    const names = this.#settled.get(row.writer) ?? row.settled;
    if (names === null) return false;
    const { keys, tags } = this.#namesOf(changeOf(row));
    return isSubset(keys, names.keys) && isSubset(tags, names.tags);
  }

  #isOwn(mark: string): boolean {
    return mark.startsWith(`${this.writer}.`);
  }
}

function isSubset(names: readonly string[], all: readonly string[]): boolean {
  return names.every((name) => all.includes(name));
}

/** Keeps only the latest. */
function dropFirst(marks: Set<string> | Map<string, unknown>): void {
  if (marks.size <= MARKS_MAX) return;
  for (const first of marks.keys()) {
    marks.delete(first);
    return;
  }
}
