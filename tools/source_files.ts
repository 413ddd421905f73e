import { join, relative } from "node:path";

/**
 * Lists the files of a folder by extension, as paths below it, in order; leaves out dot folders and
 * `node_modules`.
 */
export async function sourceFiles(root: string, extension = ".ts"): Promise<string[]> {
  const found: string[] = [];
  const folders = [root];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for await (const { name, isDirectory, isFile } of Deno.readDir(folder)) {
      if (name.startsWith(".") || name === "node_modules") continue;
      if (isDirectory) folders.push(join(folder, name));
      if (isFile && name.endsWith(extension)) found.push(relative(root, join(folder, name)));
    }
  }
  return found.sort();
}
