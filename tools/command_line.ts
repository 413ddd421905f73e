// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * What a command was asked to do. One that is called wrongly says so in a line and ends.
 *
 * @module
 */
import { parseArgs, type ParseArgsConfig } from "node:util";

/** The exit code of a command that was called wrongly, or told what makes no sense. */
const MISUSE = 2;

/** A command, as its `--help` shows it. */
export interface Command<Options extends NonNullable<ParseArgsConfig["options"]>> {
  /** What is typed to run it. */
  readonly name: string;
  /** What it does, and what each option means. */
  readonly help: string;
  /** As `parseArgs` takes them. `--help` is understood besides. */
  readonly options: Options;
}

/** What the options of a command were set to. */
export type Values<Options extends NonNullable<ParseArgsConfig["options"]>> = ReturnType<
  typeof parseArgs<{ options: Options }>
>["values"];

/** Reads a command line. Ends the process where it asks for help, or for what the command does not know. */
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

/** Says what is wrong with the command line, and ends the process. */
export function misused({ name }: Pick<Command<never>, "name">, problem: string): never {
  console.error(`${problem.replace(/\.?(\n.*)?$/s, "")}. See ${name} --help`);
  Deno.exit(MISUSE);
}
