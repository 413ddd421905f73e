/**
 * Exhaustive breadth-first search over the states of a protocol.
 *
 * A state is a few 32-bit words, so that millions fit in memory. The search is breadth first, so no trace is
 * shorter than that of the first violation.
 */

/** A protocol as the search sees it. */
export interface Model {
  /** Number of 32-bit words in a state. In the initial state all are 0. */
  readonly words: number;
  /** Takes every possible step from `state`. */
  readonly steps: (state: Uint32Array, out: Steps) => void;
  /** The violation in a state, or `undefined`. */
  readonly violation: (state: Uint32Array) => string | undefined;
  /** A state in a few words, for a trace. */
  readonly describe: (state: Uint32Array) => string;
}

/** Receives the steps of a model. */
export interface Steps {
  /** A copy of the state, to be changed and then passed to {@linkcode take}. */
  fork(): Uint32Array;
  /** Takes a step to the last forked state. `wrong` is the guarantee that the step itself violates. */
  take(label: string, wrong?: string): void;
}

/** The result of a search. */
export interface Outcome {
  /** Number of distinct states reached. All states, unless there was a violation. */
  readonly states: number;
  /** Steps taken, into new states and known ones. */
  readonly transitions: number;
  /** The violated guarantee, and the shortest interleaving that violates it. */
  readonly violation: Violation | undefined;
}

/** A violated guarantee. */
export interface Violation {
  /** The guarantee, and how it is violated. */
  readonly reason: string;
  /** The steps, numbered, each with the state it leads to. */
  readonly trace: readonly string[];
}

/** Explores every state, or stops at the first violation. Throws beyond `statesMax` states. */
export function search(model: Model, statesMax: number): Outcome {
  return new Search(model, statesMax).run();
}

class Search implements Steps {
  readonly #model: Model;
  readonly #seen: StateSet;
  readonly #from: Uint32Array;
  readonly #next: Uint32Array;
  #at = 0;
  #transitions = 0;
  #broken: { readonly step: string; readonly reason: string } | undefined;

  constructor(model: Model, statesMax: number) {
    this.#model = model;
    this.#seen = new StateSet(model.words, statesMax);
    this.#from = new Uint32Array(model.words);
    this.#next = new Uint32Array(model.words);
  }

  run(): Outcome {
    const seen = this.#seen;
    seen.add(this.#next, -1);
    for (; this.#at < seen.size && this.#broken === undefined; this.#at++) {
      seen.read(this.#at, this.#from);
      this.#model.steps(this.#from, this);
    }
    return { states: seen.size, transitions: this.#transitions, violation: this.#violation() };
  }

  fork(): Uint32Array {
    this.#next.set(this.#from);
    return this.#next;
  }

  take(label: string, wrong?: string): void {
    if (this.#broken !== undefined) return;
    this.#transitions++;
    if (wrong !== undefined) return this.#break(label, wrong);
    if (!this.#seen.add(this.#next, this.#at)) return;
    const reason = this.#model.violation(this.#next);
    if (reason !== undefined) this.#break(label, reason);
  }

  #break(label: string, reason: string): void {
    this.#broken = { step: `${label} | ${this.#model.describe(this.#next)}`, reason };
  }

  #violation(): Violation | undefined {
    if (this.#broken === undefined) return undefined;
    const path: number[] = [];
    // `run` has advanced by one since.
    for (let at = this.#at - 1; at >= 0; at = this.#seen.parent(at)) path.unshift(at);
    const steps: string[] = [];
    for (let i = 1; i < path.length; i++) steps.push(this.#stepInto(path[i] ?? 0));
    steps.push(this.#broken.step);
    const trace = steps.map((step, i) => `${i + 1}.`.padStart(4) + ` ${step}`);
    return { reason: this.#broken.reason, trace };
  }

  /** Labels are not stored: this finds one by taking the steps of the parent again. */
  #stepInto(child: number): string {
    const from = new Uint32Array(this.#from.length);
    const to = new Uint32Array(this.#from.length);
    const next = new Uint32Array(this.#from.length);
    this.#seen.read(this.#seen.parent(child), from);
    this.#seen.read(child, to);
    let found: string | undefined;
    this.#model.steps(from, {
      fork: () => {
        next.set(from);
        return next;
      },
      take: (label) => {
        if (found === undefined && next.every((value, i) => value === to[i])) found = label;
      },
    });
    return `${found} | ${this.#model.describe(to)}`;
  }
}

/** Packed states in the order they were found, each with its parent; an open-addressed hash set. */
class StateSet {
  readonly #words: number;
  readonly #statesMax: number;
  #packed: Uint32Array;
  #parents: Int32Array;
  #table: Int32Array;
  #size = 0;

  constructor(words: number, statesMax: number) {
    this.#words = words;
    this.#statesMax = statesMax;
    this.#packed = new Uint32Array(words << 12);
    this.#parents = new Int32Array(1 << 12);
    this.#table = new Int32Array(1 << 13);
  }

  get size(): number {
    return this.#size;
  }

  parent(at: number): number {
    return this.#parents[at] ?? -1;
  }

  read(at: number, into: Uint32Array): void {
    const words = this.#words;
    for (let i = 0; i < words; i++) into[i] = this.#packed[at * words + i] ?? 0;
  }

  /** Adds a state. Answers whether it is new. */
  add(state: Uint32Array, parent: number): boolean {
    if (this.#size === this.#parents.length) this.#grow();
    const slot = this.#slot(state, 0);
    if (this.#table[slot] !== 0) return false;
    if (this.#size >= this.#statesMax) {
      throw new RangeError(`Cannot search on: more than ${this.#statesMax} states`);
    }
    this.#packed.set(state, this.#size * this.#words);
    this.#parents[this.#size] = parent;
    this.#table[slot] = ++this.#size;
    return true;
  }

  /** The position in the table of the state at `offset` of `from`, or that for it. */
  #slot(from: Uint32Array, offset: number): number {
    const words = this.#words;
    let hash = 0x9e3779b9;
    for (let i = 0; i < words; i++) {
      hash = Math.imul(hash ^ (from[offset + i] ?? 0), 0x85ebca6b);
      hash ^= hash >>> 15;
    }
    hash = Math.imul(hash, 0xc2b2ae35);
    const mask = this.#table.length - 1;
    for (let slot = (hash ^ (hash >>> 16)) & mask;; slot = (slot + 1) & mask) {
      const at = (this.#table[slot] ?? 0) - 1;
      if (at < 0) return slot;
      let same = true;
      for (let i = 0; same && i < words; i++) {
        same = this.#packed[at * words + i] === from[offset + i];
      }
      if (same) return slot;
    }
  }

  #grow(): void {
    const room = this.#parents.length * 2;
    const packed = new Uint32Array(room * this.#words);
    packed.set(this.#packed);
    this.#packed = packed;
    const parents = new Int32Array(room);
    parents.set(this.#parents);
    this.#parents = parents;
    this.#table = new Int32Array(room * 2);
    for (let at = 0; at < this.#size; at++) {
      this.#table[this.#slot(packed, at * this.#words)] = at + 1;
    }
  }
}
