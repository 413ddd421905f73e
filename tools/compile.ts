// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task compile`: the service as one file that runs without Deno and contains its permissions.
 *
 * The permissions are those of `deno task start`: the binary can reach the Redis and the Postgres in the present
 * environment, and listen at the present address. `--any-host` permits any address, for a binary that is configured
 * where it runs. `--output FILE` names the binary (`dist/lookaside`), `--target` another system than this one.
 *
 * @module
 */
import { dirname, resolve } from "node:path";
import { readOptions } from "./command_line.ts";
import { type Config, ConfigError } from "../server/config.ts";
import { loadConfig } from "../server/secrets.ts";
import { ROOT } from "./child_process.ts";
import { permissionFlags } from "./permissions.ts";

const COMMAND = {
  name: "deno task compile",
  help: `deno task compile [--output FILE] [--any-host] [--target SYSTEM]

Builds the service as a single binary that runs without Deno. It may connect to the Redis and the Postgres,
and listen on the address, that the environment names now, and nothing else.

  --output FILE    the binary (dist/lookaside)
  --any-host       allow all addresses, for a binary that is configured where it runs
  --target SYSTEM  build for another system, named as in \`deno compile --target\` names it`,
  options: {
    output: { type: "string", default: `${ROOT}dist/lookaside` },
    "any-host": { type: "boolean", default: false },
    target: { type: "string" },
  },
} as const;

const MISCONFIGURED = 2;
const SMOKE_MS_MAX = 10_000;

export interface CompileOptions {
  /** The path of the binary. */
  readonly output: string;
  /** True if it may connect to any address. */
  readonly anyHost: boolean;
  /** The target system. Absent: this one. */
  readonly target?: string;
}

/**
 * The arguments of `deno` that compile the service. It is bundled first: one module starts faster, and the file
 * contains only imported code. Nothing may be imported from elsewhere at run time. Deno downloads its bundler on
 * first use.
 */
export function compileArgs(config: Config, options: CompileOptions): string[] {
  const flags = permissionFlags(config).map((flag) =>
    options.anyHost && flag.startsWith("--allow-net=") ? "--allow-net" : flag
  );
  return [
    "compile",
    "--quiet",
    "--bundle",
    "--frozen",
    ...flags,
    "--deny-import",
    ...(options.target === undefined ? [] : ["--target", options.target]),
    "--output",
    options.output,
    "main.ts",
  ];
}

async function compile(options: CompileOptions): Promise<number> {
  const config = loadConfig();
  await Deno.mkdir(dirname(options.output), { recursive: true });
  const { code } = await new Deno.Command(Deno.execPath(), {
    args: compileArgs(config, options),
    cwd: ROOT,
    stdin: "null",
  }).spawn().status;
  if (code !== 0) return code;
  const { size } = await Deno.stat(options.output);
  console.log(`${options.output}: ${(size / 1024 ** 2).toFixed(1)} MiB`);
  if (options.target !== undefined) return 0;
  console.log(`loaded in ${(await loadMs(options.output)).toFixed(0)} ms`);
  return 0;
}

/**
 * Time until the binary has loaded its code: with an invalid configuration it reads that and ends. This also
 * proves that it runs at all.
 *
 * @throws {Error} It does not run.
 */
async function loadMs(binary: string): Promise<number> {
  const startedAtMs = performance.now();
  const { code, stderr } = await new Deno.Command(binary, {
    env: { CACHE: "maybe" },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
    signal: AbortSignal.timeout(SMOKE_MS_MAX),
  }).output();
  const elapsedMs = performance.now() - startedAtMs;
  const text = new TextDecoder().decode(stderr);
  if (code === MISCONFIGURED && text.includes("CACHE: ")) return elapsedMs;
  throw new Error(`Cannot use ${binary}: it ended with code ${code}\n${text}`);
}

async function main(): Promise<number> {
  const values = readOptions(COMMAND);
  try {
    return await compile({
      output: resolve(values.output),
      anyHost: values["any-host"],
      ...(values.target === undefined ? {} : { target: values.target }),
    });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error(error.message);
    return MISCONFIGURED;
  }
}

if (import.meta.main) Deno.exit(await main());
