import { join } from "node:path";

/** The oldest Node that the packages promise to run on. */
export const NODE_MIN = 22;

/**
 * The Node of this machine if it is new enough, else one from npm in a folder that the caller removes.
 *
 * @throws {Error} npm has none for this machine.
 */
export async function nodeProgram(folder: string): Promise<string> {
  if (await majorVersion() >= NODE_MIN) return "node";
  const architecture = Deno.build.arch === "aarch64" ? "arm64" : "x64";
  const name = `node-${Deno.build.os}-${architecture}`;
  const directory = join(folder, "node");
  await Deno.mkdir(directory);
  const dependencies = { [name]: `${NODE_MIN}` };
  await Deno.writeTextFile(join(directory, "package.json"), JSON.stringify({ dependencies }));
  await Deno.writeTextFile(join(directory, "deno.json"), '{ "nodeModulesDir": "manual" }');
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["install", "--quiet"],
    cwd: directory,
  }).output();
  if (success) return join(directory, "node_modules", name, "bin/node");
  throw new Error(`Cannot find Node ${NODE_MIN} or newer: ${new TextDecoder().decode(stderr)}`);
}

/** Of the Node on this machine; 0 where there is none. */
async function majorVersion(): Promise<number> {
  try {
    const { stdout } = await new Deno.Command("node", { args: ["--version"] }).output();
    return Number(/^v(\d+)/.exec(new TextDecoder().decode(stdout))?.[1] ?? 0);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}
