/**
 * The environment of the development tools: this process's own over what `.env` says.
 *
 * @module
 */
import { parseEnv } from "node:util";
import { readEnvironment } from "../server/config.ts";
import { DATA_FOLDER, ROOT } from "./child_process.ts";

/** Variables by name. */
export type Environment = Record<string, string | undefined>;

/** Where a running `deno task dev` leaves the addresses it chose. */
export function devEnvFile(dataFolder: string): string {
  return `${dataFolder}/dev.env`;
}

/** The service's variables, from this process's environment and, where they are not set, `.env`. */
export async function developmentEnvironment(): Promise<Environment> {
  return { ...await readEnvFile(`${ROOT}.env`), ...givenEnvironment() };
}

/** As {@linkcode developmentEnvironment}, with the servers that a running `deno task dev` chose. */
export async function runningEnvironment(): Promise<Environment> {
  return {
    ...await readEnvFile(`${ROOT}.env`),
    ...await readEnvFile(devEnvFile(DATA_FOLDER)),
    ...givenEnvironment(),
  };
}

/** What is set in this process's environment, be it to nothing. */
function givenEnvironment(): Environment {
  const given = Object.entries(readEnvironment()).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given);
}

/** Reads a file of `NAME=value` lines. A missing one is empty. */
async function readEnvFile(path: string): Promise<Environment> {
  try {
    return parseEnv(await Deno.readTextFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return {};
    throw error;
  }
}

/** The variables that are set, as a child process takes them. */
export function definedOnly(env: Readonly<Environment>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).filter((pair): pair is [string, string] => pair[1] !== undefined),
  );
}
