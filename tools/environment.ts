/**
 * The environment of the development tools: this process's own, then `.env`.
 *
 * @module
 */
import { parseEnv } from "node:util";
import { readEnvironment } from "../server/config.ts";
import { DATA_FOLDER, ROOT } from "./child_process.ts";

/** Variables by name. */
export type Environment = Record<string, string | undefined>;

/** The file in which a running `deno task dev` notes its addresses. */
export function devEnvFile(dataFolder: string): string {
  return `${dataFolder}/dev.env`;
}

/** The service's variables, from this process's environment or, if not set there, from `.env`. */
export async function developmentEnvironment(): Promise<Environment> {
  return { ...await readEnvFile(`${ROOT}.env`), ...definedOnly(readEnvironment()) };
}

/** As {@linkcode developmentEnvironment}, with the servers of a running `deno task dev`. */
export async function runningEnvironment(): Promise<Environment> {
  return {
    ...await readEnvFile(`${ROOT}.env`),
    ...await readEnvFile(devEnvFile(DATA_FOLDER)),
    ...definedOnly(readEnvironment()),
  };
}

/** Reads a file of `NAME=value` lines. A missing file counts as empty. */
async function readEnvFile(path: string): Promise<Environment> {
  try {
    return parseEnv(await Deno.readTextFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return {};
    throw error;
  }
}

/** The set variables, empty ones included, as a child process takes them. */
export function definedOnly(env: Readonly<Environment>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).filter((pair): pair is [string, string] => pair[1] !== undefined),
  );
}
