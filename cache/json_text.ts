/**
 * A value that is JSON already: stored and answered as it is, every digit and space of it.
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

  /** `text` must be JSON: nobody looks. */
  constructor(text: string) {
    this.text = text;
  }
}
