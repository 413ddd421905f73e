/**
 * Copies of the source tree without one mechanism, which the checker must notice.
 *
 * @module
 */
import { copyTree, type TreeCopy } from "../../tests/support/tree_copy.ts";

/** One change of the source, which must be applicable. */
export interface Mutation {
  /** Relative to the root of the tree. */
  readonly file: string;
  /** A text that occurs there exactly once. */
  readonly from: string;
  readonly to: string;
}

/** The mechanisms whose absence a run must notice. */
export const MUTATIONS: Readonly<Record<"lease" | "relay" | "feed", Mutation>> = {
  lease: {
    file: "cache/lease.ts",
    from: "if redis.pcall('GET', lease) == ARGV[at] then",
    to: "if true then",
  },
  relay: {
    file: "changes/postgres_changes.ts",
    from: "const start = () => this.#feeds.forEach((feed) => feed.start());",
    to: "const start = () => {};",
  },
  feed: {
    file: "cache/engine.ts",
    from: "if (!this.fallback) this.#changed(redisKey);",
    to: "void redisKey;",
  },
};

/**
 * Copies the tree and applies a mutation.
 *
 * @throws {Error} The text to replace does not occur in the file exactly once: the file has changed.
 */
export async function breakTree({ file, from, to }: Mutation): Promise<TreeCopy> {
  await using stack = new AsyncDisposableStack();
  const tree = stack.use(await copyTree());
  const pieces = (await Deno.readTextFile(tree.root + file)).split(from);
  if (pieces.length !== 2) throw new Error(`Cannot break ${file}: ${from} stands there not once`);
  await Deno.writeTextFile(tree.root + file, pieces.join(to));
  stack.move();
  return tree;
}
