// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * The command line of a program. With invalid arguments, it prints one line and ends.
 *
 * @module
 */
import { parseArgs, type ParseArgsConfig } from "node:util";

/** The exit code for an invalid command line or configuration. */
const MISUSE = 2;

/** A command, as its `--help` shows it. */
export interface Command<Options extends NonNullable<ParseArgsConfig["options"]>> {
  /** The name as typed. */
  readonly name: string;
  /** Its description and that of each option. */
  readonly help: string;
  /** Options of `parseArgs`; `--help` is added. */
  readonly options: Options;
}

/** The values of a command's options. */
export type Values<Options extends NonNullable<ParseArgsConfig["options"]>> = ReturnType<
  typeof parseArgs<{ options: Options }>
>["values"];

/** Reads a command line. Ends the process for `--help`, and if there is an unknown argument. */
export function readOptions<const Options extends NonNullable<ParseArgsConfig["options"]>>(
  command: Command<Options>,
  args: readonly string[] = Deno.args,
): Values<Options> {
  if (args.includes("--help") || args.includes("-h")) {
    console.log(command.help);
    Deno.exit(0);
  }
  try {
    return parseArgs({ args: [...args], options: command.options }).values;
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    misused(command, error.message);
  }
}

/** Prints what is wrong with the command line, and ends the process. */
export function misused({ name }: Pick<Command<never>, "name">, problem: string): never {
  console.error(`${problem.replace(/\.?(\n.*)?$/s, "")}. See ${name} --help`);
  Deno.exit(MISUSE);
}
