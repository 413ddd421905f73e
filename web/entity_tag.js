// @ts-check
/**
 * The entity tags of the service, computed here: the tab may be closed before a write is answered, so the
 * condition for undoing the write must be known before.
 *
 * @module
 */

/**
 * The tag of a row, the same as `weakEtag()` of `cache/hono/etag.ts` makes from its JSON.
 *
 * @param {unknown} row
 */
export function entityTag(row) {
  const text = JSON.stringify(row);
  let left = 0x811c9dc5;
  let right = 0x9e3779b9;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    left = Math.imul(left ^ unit, 0x9e3779b1);
    right = Math.imul(right ^ unit, 0x5f356495);
  }
  left = Math.imul(left ^ (left >>> 16) ^ right, 0x85ebca6b);
  right = Math.imul(right ^ (right >>> 13) ^ left, 0xc2b2ae35);
  return `W/"${hex(left ^ (left >>> 16))}${hex(right ^ (right >>> 16))}"`;
}

/** @param {number} lane */
function hex(lane) {
  return (lane >>> 0).toString(16).padStart(8, "0");
}
