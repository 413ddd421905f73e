/** The steps of writers and relays: `Cache.delete()`, `cache/pending.ts`, `changes/relay.ts`. */
import type { Steps } from "./search.ts";
import {
  ACKNOWLEDGED,
  APPLIED,
  COMMITTED,
  type Configuration,
  DEBT,
  DELETED,
  DONE,
  doubt,
  drop,
  FIRST,
  get,
  GONE,
  instanceAt,
  LINK,
  OPEN,
  PENDING,
  rowAt,
  set,
  unlink,
  UNWRITTEN,
  writerAt,
} from "./state.ts";

/** Takes every step that one writer can take. */
export class WriterSteps {
  readonly #how: Configuration;
  readonly #writer: number;
  readonly #instance: number;
  readonly #who: string;

  constructor(how: Configuration, writer: number) {
    this.#how = how;
    this.#writer = writer;
    this.#instance = how.writers[writer] ?? 0;
    this.#who = `writer ${writer + 1} on ${"AB"[this.#instance]}:`;
  }

  take(state: Uint32Array, out: Steps): void {
    const at = get(state, writerAt(this.#writer));
    if (at === UNWRITTEN) this.#commit(state, out);
    else if (at === COMMITTED || at === DELETED) this.#deleting(state, out);
  }

  #commit(state: Uint32Array, out: Steps): void {
    const next = out.fork();
    set(next, writerAt(this.#writer), COMMITTED);
    if (get(state, FIRST) === 0) set(next, FIRST, this.#writer + 1);
    if (this.#how.outbox && this.#how.without !== "outbox") set(next, rowAt(this.#writer), OPEN);
    out.take(`${this.#who} commits`);
  }

  /** The first drop, before UNLINK is sent, is left out: it saves time, but no guarantee depends on it. */
  #deleting(state: Uint32Array, out: Steps): void {
    const linked = get(state, instanceAt(this.#instance, LINK)) === 0;
    const drops = this.#how.without !== "drop after a delete";
    if (get(state, writerAt(this.#writer)) === DELETED) {
      const next = out.fork();
      set(next, writerAt(this.#writer), ACKNOWLEDGED);
      if (drops) drop(next, this.#instance, this.#how);
      out.take(`${this.#who} ${drops ? "drops the key here, " : ""}is acknowledged`);
    } else {
      this.#unlink(linked, out);
    }
    if (linked && !this.#how.timeouts) return;
    const next = out.fork();
    set(next, writerAt(this.#writer), PENDING);
    set(next, instanceAt(this.#instance, DEBT), 1);
    if (drops) drop(next, this.#instance, this.#how);
    doubt(next, this.#instance, this.#how);
    out.take(`${this.#who} UNLINK fails or its reply is lost, acknowledged as pending`);
  }

  #unlink(linked: boolean, out: Steps): void {
    if (linked) {
      const next = out.fork();
      set(next, writerAt(this.#writer), DELETED);
      unlink(next, this.#how);
      out.take(`${this.#who} UNLINK is executed`);
    }
    if (!this.#how.writerDies) return;
    set(out.fork(), writerAt(this.#writer), GONE);
    out.take(`${this.#who} dies before its delete, or never deletes`);
  }
}

/** Takes the steps of one instance's relay and of its pending invalidations. */
export class RelaySteps {
  readonly #how: Configuration;
  readonly #instance: number;
  readonly #who: string;

  constructor(how: Configuration, instance: number) {
    this.#how = how;
    this.#instance = instance;
    this.#who = `relay on ${"AB"[instance]}:`;
  }

  take(state: Uint32Array, out: Steps): void {
    const linked = get(state, instanceAt(this.#instance, LINK)) === 0;
    if (linked && get(state, instanceAt(this.#instance, DEBT)) === 1) this.#invalidatePending(out);
    for (let writer = 0; writer < this.#how.writers.length; writer++) {
      const row = get(state, rowAt(writer));
      if (row === OPEN && linked) this.#apply(writer, out);
      else if (row === APPLIED + this.#instance) this.#mark(writer, out);
    }
  }

  #invalidatePending(out: Steps): void {
    const next = out.fork();
    unlink(next, this.#how);
    set(next, instanceAt(this.#instance, DEBT), 0);
    out.take(`${this.#who} the pending UNLINK is executed`);
  }

  #apply(writer: number, out: Steps): void {
    const next = out.fork();
    set(next, rowAt(writer), APPLIED + this.#instance);
    unlink(next, this.#how);
    out.take(`${this.#who} claims the row of writer ${writer + 1}, UNLINK is executed`);
  }

  #mark(writer: number, out: Steps): void {
    const next = out.fork();
    set(next, rowAt(writer), DONE);
    drop(next, this.#instance, this.#how);
    out.take(`${this.#who} the row of writer ${writer + 1} is marked done`);
    if (!this.#how.timeouts) return;
    set(out.fork(), rowAt(writer), OPEN);
    out.take(`${this.#who} fails, the row of writer ${writer + 1} is open again`);
  }
}
