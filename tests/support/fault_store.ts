import type { Entry } from "../../cache/entry.ts";
import type { Acquired, FeedListener, Store, Stored, Successor } from "../../cache/store.ts";

/** When a call fails: before it takes effect, or after, so that its caller can't tell. */
export type FaultKind = "before" | "after";

/** Which calls of a {@linkcode FaultStore} fail, and how. */
export interface Fault {
  /** The call that fails, from 0. */
  readonly nth: number;
  /** How many calls fail from there on. Default 1. */
  readonly count?: number;
  /** When it fails. */
  readonly kind: FaultKind;
}

/** A store that fails the n-th call of the store it wraps. */
export class FaultStore implements Store {
  readonly source: Store["source"];
  readonly #inner: Store;
  readonly #fault: Fault | undefined;
  #calls = 0;
  readonly #failed: string[] = [];

  /** @param fault Without one it only counts. */
  constructor(inner: Store, fault?: Fault) {
    this.source = inner.source;
    this.#inner = inner;
    this.#fault = fault;
  }

  /** Calls so far. */
  get calls(): number {
    return this.#calls;
  }

  /** The commands that were failed. */
  get failed(): readonly string[] {
    return this.#failed;
  }

  get(key: string): Promise<Stored | null> {
    return this.#call("get", () => this.#inner.get(key));
  }

  acquire(key: string, lease: string, seen: Uint8Array | undefined): Promise<Acquired> {
    return this.#call("acquire", () => this.#inner.acquire(key, lease, seen));
  }

  fill(key: string, lease: string, entry: Entry): Promise<boolean> {
    return this.#call("fill", () => this.#inner.fill(key, lease, entry));
  }

  release(key: string, lease: string, successor?: Successor): Promise<void> {
    return this.#call("release", () => this.#inner.release(key, lease, successor));
  }

  set(key: string, entry: Entry): Promise<void> {
    return this.#call("set", () => this.#inner.set(key, entry));
  }

  invalidate(keys: readonly string[]): Promise<void> {
    return this.#call("invalidate", () => this.#inner.invalidate(keys));
  }

  expire(keys: readonly string[]): Promise<void> {
    return this.#call("expire", () => this.#inner.expire(keys));
  }

  readTags(names: readonly string[]): Promise<(string | null)[]> {
    return this.#call("readTags", () => this.#inner.readTags(names));
  }

  createTags(names: readonly string[], version: string): Promise<string[]> {
    return this.#call("createTags", () => this.#inner.createTags(names, version));
  }

  writeTags(names: readonly string[], version: string): Promise<void> {
    return this.#call("writeTags", () => this.#inner.writeTags(names, version));
  }

  follow(listener: FeedListener): void {
    this.#inner.follow(listener);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  async #call<T>(command: string, run: () => Promise<T>): Promise<T> {
    const at = this.#calls++;
    const fault = this.#fault;
    const fails = fault !== undefined && at >= fault.nth && at < fault.nth + (fault.count ?? 1);
    if (!fails) return await run();
    this.#failed.push(command);
    if (fault.kind === "after") await run();
    throw new Error(`Cannot ${command}: call ${at} was failed ${fault.kind} it took effect`);
  }
}
