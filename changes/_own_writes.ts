import type { InvalidatedNames, OwnWrite } from "@lookaside/cache";
import type { Chores } from "./_chores.ts";
import type { Marks } from "./_marks.ts";
import type { Outbox } from "./_outbox.ts";

/** Interval at which a process that writes reports itself. */
const WRITER_MS = 10_000;
/** Time that marks wait to be noted together. */
const SETTLED_MS = 100;
/** Limit of names that others are told of: a relay gets them with each row of the write. */
const TOLD_MAX = 5_000;
const NOTHING: InvalidatedNames = { keys: [], tags: [] };

/** Options of {@linkcode OwnWrites}. */
export interface OwnWritesOptions {
  readonly marks: Marks;
  readonly outbox: Outbox;
  readonly chores: Chores;
  /** True if other processes relay for this cache. */
  readonly isShared: boolean;
  /** True if this process is the usual relay, which knows its own marks. */
  readonly isRelay: () => boolean;
  /** Called if other processes could not be told. */
  readonly onError: (error: unknown) => void;
}

/** Writes that this process invalidates itself, and how the relays of other processes hear of them. */
export class OwnWrites {
  readonly #options: OwnWritesOptions;
  #announced: Promise<void> = Promise.resolve();

  constructor(options: OwnWritesOptions) {
    this.#options = options;
  }

  /** Begins a write. Others know by then that this process writes; otherwise the write is left to the relay. */
  async begin(given?: string): Promise<OwnWrite> {
    const { marks, outbox, chores, isShared, onError } = this.#options;
    if (isShared && chores.takeIfDue("writer", WRITER_MS)) {
      this.#announced = outbox.noteWriter(marks.writer).catch(onError);
    }
    await this.#announced;
    const mark = marks.open(given);
    let names = NOTHING;
    return {
      mark,
      invalidated: (invalidated) => names = invalidated,
      [Symbol.dispose]: () => this.#settle(mark, names),
    };
  }

  #settle(mark: string, names: InvalidatedNames): void {
    const { marks, chores, isShared, isRelay } = this.#options;
    marks.settle({ mark, names });
    if (!isShared || isRelay()) return;
    const isMany = names.keys.length + names.tags.length > TOLD_MAX;
    marks.tell({ mark, names: isMany ? NOTHING : names }); // without names, they invalidate again
    chores.soon("settled", SETTLED_MS, () => chores.run(() => this.#tell()));
  }

  /** Tells other processes. If that fails, they apply the rows a second later. */
  async #tell(): Promise<void> {
    const { marks, outbox } = this.#options;
    for (let settled = marks.take(); settled.length > 0; settled = marks.take()) {
      await outbox.noteSettled(settled);
    }
  }
}
