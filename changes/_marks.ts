import type { InvalidatedNames } from "@lookaside/cache";
import type { Change } from "./apply.ts";
import { changeOf } from "./_changed_row.ts";
import { GRACE_MS, type OutboxRow, type Settled } from "./_outbox.ts";

/** Limit of remembered marks: those of a second, with a margin. */
const MARKS_MAX = 5_000;
/** Number of marks that others are told of at once. */
const BATCH_MAX = 500;

/** The rest of a row whose names are all invalidated. */
const NOTHING: InvalidatedNames = { keys: [], tags: [] };

/** Makes the names of the entries that depend on a change. */
export type NamesOf = (change: Change) => InvalidatedNames;

/** The rows that a relay has found, by the treatment of each. */
export interface Split {
  /** Rows to apply. */
  readonly due: readonly OutboxRow[];
  /** The names left to invalidate of each row that its writer has applied in part. */
  readonly names: readonly InvalidatedNames[];
  /** Transactions that are left to their writers. */
  readonly reserved: ReadonlySet<string>;
}

/** The names that the writer of several rows has invalidated: sets, since both may be many. */
type Done = Readonly<Record<keyof InvalidatedNames, ReadonlySet<string>>>;

/**
 * The marks that this process has given to its own writes, and the names that it has invalidated for them.
 *
 * A transaction may change more than its writer knows, by a cascading foreign key, a trigger or another
 * statement; and on a ring, its writer deletes a key on one server only. So a mark alone proves nothing: of the
 * names that depend on a row, those that its writer has not invalidated are left to the relay.
 */
export class Marks {
  /** The name of this process for others. */
  readonly writer: string;
  readonly #namesOf: NamesOf;
  readonly #open = new Set<string>();
  readonly #settled = new Map<string, InvalidatedNames>();
  readonly #untold: Settled[] = [];
  #count = 0;

  constructor(writer: string, namesOf: NamesOf) {
    this.writer = writer;
    this.#namesOf = namesOf;
  }

  /** Opens a mark until it is settled. Default: a new one. */
  open(mark: string = `${this.writer}.${(this.#count++).toString(36)}`): string {
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

  /**
   * Splits rows: those to apply, names left to invalidate of rows that their writer has applied in part, and
   * transactions to leave to their writers for a while if `reserves`.
   */
  split(rows: readonly OutboxRow[], { reserves }: { readonly reserves: boolean }): Split {
    const due: OutboxRow[] = [];
    const names: InvalidatedNames[] = [];
    const reserved = new Set<string>();
    const done = new Map<string | null, Done | undefined>();
    for (const row of rows) if (!done.has(row.writer)) done.set(row.writer, this.#doneOf(row));
    for (const [xid, ofOne] of Map.groupBy(rows, (row) => row.xid)) {
      const left = ofOne.map((row) => ({ row, rest: this.#restOf(row, done.get(row.writer)) }))
        .filter(({ rest }) => rest !== NOTHING);
      // All or nothing: otherwise, what is applied now would be applied again with the rest.
      if (reserves && left.length > 0 && left.every(({ row }) => this.#isReserved(row))) {
        reserved.add(xid);
      } else {
        for (const { row, rest } of left) {
          if (rest === undefined) due.push(row);
          else names.push(rest);
        }
      }
    }
    return { due, names, reserved };
  }

  #isReserved({ writer, openMs, isKnown, settled }: OutboxRow): boolean {
    if (writer === null || openMs >= GRACE_MS) return false;
    return this.#isOwn(writer) ? this.#open.has(writer) : isKnown && settled === null;
  }

  /** The names that the writer of a row has invalidated; `undefined`: it has reported none. */
  #doneOf({ writer, settled }: OutboxRow): Done | undefined {
    const { keys, tags } = (writer === null ? null : this.#settled.get(writer) ?? settled) ??
      NOTHING;
    if (keys.length + tags.length === 0) return undefined;
    return { keys: new Set(keys), tags: new Set(tags) };
  }

  /** The names of a row that are not `done`; `undefined`: all of them. */
  #restOf(row: OutboxRow, done: Done | undefined): InvalidatedNames | undefined {
    if (done === undefined) return undefined;
    let names: InvalidatedNames;
    try {
      names = this.#namesOf(changeOf(row));
    } catch (_error) {
      return undefined; // applying the row fails too, and reports it
    }
    const { keys, tags } = names;
    const rest = { keys: without(keys, done.keys), tags: without(tags, done.tags) };
    return rest.keys.length + rest.tags.length === 0 ? NOTHING : rest;
  }

  #isOwn(mark: string): boolean {
    return mark.startsWith(`${this.writer}.`);
  }
}

function without(names: readonly string[], done: ReadonlySet<string>): string[] {
  return names.filter((name) => !done.has(name));
}

/** Keeps only the latest. */
function dropFirst(marks: Set<string> | Map<string, unknown>): void {
  if (marks.size <= MARKS_MAX) return;
  for (const first of marks.keys()) {
    marks.delete(first);
    return;
  }
}
