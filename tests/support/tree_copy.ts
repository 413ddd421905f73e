import { cp } from "node:fs/promises";
import { join } from "node:path";
import { projectRoot } from "./source_tree.ts";

/** A copy of the source, which a test may change. */
export interface TreeCopy extends AsyncDisposable {
  /** Its root, with a slash at its end. */
  readonly root: string;
}

/** Copies everything that a task of `deno.json` needs. */
export async function copyTree(): Promise<TreeCopy> {
  const directory = await Deno.makeTempDir({ prefix: "lookaside_tree_" });
  for await (const { name } of Deno.readDir(projectRoot)) {
    if (/^\.|^(bench|docs|examples|node_modules|ops)$|\.md$/.test(name)) continue;
    await cp(join(projectRoot, name), join(directory, name), { recursive: true });
  }
  return {
    root: `${directory}/`,
    [Symbol.asyncDispose]: () => Deno.remove(directory, { recursive: true }),
  };
}
