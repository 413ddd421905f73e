/**
 * Copies of the source tree with one mechanism taken out: what a checker must not let pass.
 *
 * @module
 */
import { cp } from "node:fs/promises";
import { fileURLToPath } from "node:url";

/** One change of the source, which must be possible. */
export interface Mutation {
  /** Relative to the root of the tree. */
  readonly file: string;
  /** Text that stands there exactly once. */
  readonly from: string;
  readonly to: string;
}

/** A copy of the source tree. */
export interface BrokenTree extends AsyncDisposable {
  /** Its root, with a slash at its end. */
  readonly root: string;
}

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
/** What the service runs from, beside the modules at the root. */
const PARTS = ["deno.json", "deno.lock", "import_map.jsr.json", "cache", "db", "routes", "web"];

/** The mechanisms that a run must be able to miss. */
export const MUTATIONS: Readonly<Record<"lease" | "relay" | "feed", Mutation>> = {
  lease: {
    file: "cache/lease.ts",
    from: "if redis.pcall('GET', KEYS[2]) ~= ARGV[1] then return 0 end\nredis.call('SET'",
    to: "redis.call('SET'",
  },
  relay: {
    file: "main.ts",
    from: "if (config.cache.enabled) changes.start();",
    to: "",
  },
  feed: {
    file: "cache/engine.ts",
    from: "changed: (redisKey) => this.#changed(redisKey),",
    to: "changed: () => {},",
  },
};

/**
 * Copies the tree and applies a mutation.
 *
 * @throws {Error} The text to replace does not stand in the file exactly once: it has changed.
 */
export async function breakTree(mutation: Mutation): Promise<BrokenTree> {
  const directory = await Deno.makeTempDir({ prefix: "lookaside_broken_" });
  const tree = {
    root: `${directory}/`,
    [Symbol.asyncDispose]: () => Deno.remove(directory, { recursive: true }),
  };
  await using stack = new AsyncDisposableStack();
  stack.use(tree);
  for (const part of [...PARTS, ...await rootModules()]) {
    try {
      await cp(ROOT + part, tree.root + part, { recursive: true });
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    }
  }
  const path = tree.root + mutation.file;
  const pieces = (await Deno.readTextFile(path)).split(mutation.from);
  if (pieces.length !== 2) {
    throw new Error(`Cannot break ${mutation.file}: ${mutation.from} stands there not once`);
  }
  await Deno.writeTextFile(path, pieces.join(mutation.to));
  stack.move();
  return tree;
}

async function rootModules(): Promise<string[]> {
  const names = (await Array.fromAsync(Deno.readDir(ROOT))).map(({ name }) => name);
  return names.filter((name) => name.endsWith(".ts"));
}
