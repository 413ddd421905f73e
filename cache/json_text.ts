/**
 * A value that is JSON already: stored and answered unchanged, to every digit and space.
 *
 * @example
 * ```ts
 * import assert from "node:assert/strict";
 * import { Cache, JsonText } from "@lookaside/cache";
 *
 * await using cache = new Cache();
 * const found = await cache.getOrLoad("a", () => Promise.resolve(new JsonText('{"n": 1.10}')));
 * assert.equal(found.text, '{"n": 1.10}');
 * ```
 */
export class JsonText {
  /** The JSON. */
  readonly text: string;

  /** Takes a `text` that must be JSON; this is not checked. */
  constructor(text: string) {
    this.text = text;
  }
}
