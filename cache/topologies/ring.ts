/**
 * Chooses which of several independent servers owns a key: rendezvous hashing (Thaler and Ravishankar, "Using
 * Name-Based Mappings to Increase Hit Rates", 1998).
 *
 * Every server has a weight for every key, and the one with the highest owns it. So an added server takes an
 * equal share of keys from each of the others, and no key moves between those. No table is needed: all processes
 * with the same names, in any order, place keys alike.
 *
 * @module
 */

import { fnv1a } from "../hash.ts";

/**
 * Places keys on servers.
 *
 * @example
 * ```ts
 * import { Ring } from "./ring.ts";
 *
 * const ring = new Ring(["10.0.0.1:6379", "10.0.0.2:6379"]);
 * const same = new Ring(["10.0.0.2:6379", "10.0.0.1:6379"]);
 * console.assert(ring.indexOf("user:1") === 1 - same.indexOf("user:1"));
 * ```
 */
export class Ring {
  readonly #seeds: Uint32Array;

  /**
   * @param names The names of the servers, each once.
   * @throws {RangeError} The list is empty.
   */
  constructor(names: readonly string[]) {
    if (names.length === 0) throw new RangeError("Cannot place keys: there is no server");
    this.#seeds = Uint32Array.from(names, (name) => mixed(fnv1a(name)));
  }

  /** The index of the name that owns `key`. */
  indexOf(key: string): number {
    const hash = fnv1a(key);
    let owner = 0;
    let heaviest = -1;
    for (let i = 0; i < this.#seeds.length; i++) {
      const weight = mixed(hash ^ (this.#seeds[i] ?? 0));
      if (weight <= heaviest) continue;
      heaviest = weight;
      owner = i;
    }
    return owner;
  }
}

/** The finalizer of MurmurHash3 (Appleby): each input bit flips half of the output bits. */
function mixed(hash: number): number {
  let bits = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
