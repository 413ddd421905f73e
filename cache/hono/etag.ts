/**
 * Weak entity tags: two answers have the same one if they carry the same data, whichever tier they came
 * from and however long that took.
 *
 * @module
 */

/**
 * The weak entity tag of JSON objects or arrays, in their order. Each shows where it ends.
 *
 * 64 bits in two lanes of multiply and xor (as FNV-1a, with two primes): a tag is compared only with
 * those of earlier versions of the same resource. It is computed on every answer from Redis, where
 * `node:crypto`'s SHA-1 took 2.5 µs and this takes 0.8 µs.
 */
export function weakEtag(texts: readonly string[]): string {
  let left = 0x811c9dc5;
  let right = 0x9e3779b9;
  for (const text of texts) {
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      left = Math.imul(left ^ unit, 0x9e3779b1);
      right = Math.imul(right ^ unit, 0x5f356495);
    }
  }
  // The low bits of such a product know little of the high bits of the text, so mix once more.
  left = Math.imul(left ^ (left >>> 16) ^ right, 0x85ebca6b);
  right = Math.imul(right ^ (right >>> 13) ^ left, 0xc2b2ae35);
  return `W/"${hex(left ^ (left >>> 16))}${hex(right ^ (right >>> 16))}"`;
}

/**
 * Whether `If-None-Match` names the entity tag, by weak comparison (RFC 9110, 8.8.3.2). `*` names any.
 */
export function matchesEtag(ifNoneMatch: string, etag: string): boolean {
  if (ifNoneMatch === etag || ifNoneMatch.trim() === "*") return true;
  const opaque = etag.slice(etag.indexOf('"'));
  // Read as a list: a comma may stand within a tag, so splitting at commas would not do.
  for (const [, candidate] of ifNoneMatch.matchAll(/(?:W\/)?("[^"]*")/g)) {
    if (candidate === opaque) return true;
  }
  return false;
}

function hex(lane: number): string {
  return (lane >>> 0).toString(16).padStart(8, "0");
}
