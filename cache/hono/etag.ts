/**
 * Weak entity tags: equal for responses with the same data, from whichever tier and at whatever time.
 *
 * @module
 */

/**
 * The weak entity tag of a sequence of JSON objects or arrays; their ends are unambiguous.
 *
 * 64 bits in two lanes of multiply and xor (as FNV-1a, with two primes). That suffices, since a tag is compared
 * only with tags of earlier versions of the same resource. It is computed for every answer from Redis: SHA-1 of
 * `node:crypto` took 2.5 µs, this takes 0.8 µs.
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
  // The low bits of such a product depend little on the high bits of the text, so mix once more.
  left = Math.imul(left ^ (left >>> 16) ^ right, 0x85ebca6b);
  right = Math.imul(right ^ (right >>> 13) ^ left, 0xc2b2ae35);
  return `W/"${hex(left ^ (left >>> 16))}${hex(right ^ (right >>> 16))}"`;
}

/** True if `If-None-Match` contains the entity tag, by weak comparison (RFC 9110, 8.8.3.2). `*` matches any. */
export function matchesEtag(ifNoneMatch: string, etag: string): boolean {
  if (ifNoneMatch === etag || ifNoneMatch.trim() === "*") return true;
  const opaque = etag.slice(etag.indexOf('"'));
  // Matched as a list: a tag may contain commas, so splitting at commas would fail.
  for (const [, candidate] of ifNoneMatch.matchAll(/(?:W\/)?("[^"]*")/g)) {
    if (candidate === opaque) return true;
  }
  return false;
}

function hex(lane: number): string {
  return (lane >>> 0).toString(16).padStart(8, "0");
}
