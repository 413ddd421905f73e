/**
 * Errors that end the start, because only a person can fix them.
 *
 * @module
 */
import { OtherSourceError } from "../cache/mod.ts";
import { adviceOn } from "../db/advice.ts";
import { DeclarationError } from "../db/table_shape.ts";
import type { Table } from "../routes/table.ts";
import { messageOf } from "./message_of.ts";
import { readFirst } from "./readiness.ts";
import { unlistedAddress } from "./unlisted_address.ts";
import { within } from "./within.ts";

/** Time for the relay to find out that it may not read the outbox. */
const RELAY_MS = 2_000;

/** The service cannot run until somebody changes something. The message says what. */
export class StartError extends Error {
  override readonly name = "StartError";
}

/**
 * The reason why the service cannot work as things are: a wrong password; a missing database, table, column or
 * right; an address that the permissions do not list. `undefined`: it can work, or the problem is temporary.
 *
 * @param relayRefused Resolves with the error if the relay of changes is refused permanently.
 */
export async function refusalOf(
  tables: readonly Table[],
  relayRefused: Promise<unknown>,
): Promise<StartError | undefined> {
  try {
    for (const table of tables) await readFirst(table);
  } catch (error) {
    return startErrorOf(error);
  }
  return startErrorOf(await within(RELAY_MS, relayRefused, undefined));
}

/** The error that ends the start, if `error` is permanent. */
export function startErrorOf(error: unknown): StartError | undefined {
  if (error instanceof DeclarationError || error instanceof OtherSourceError) {
    return new StartError(error.message, { cause: error });
  }
  const address = unlistedAddress(error);
  const advice = address === undefined ? adviceOn(error) : unlistedAdvice(address);
  if (advice === undefined) return undefined;
  return new StartError(`Cannot serve: ${messageOf(error)}. ${advice}`, { cause: error });
}

function unlistedAdvice(address: string): string {
  return `The permissions of this process do not list ${address}: \`deno task start\` computes them from ` +
    "the configuration; in a container, give it a command of your own with that address in --allow-net";
}
